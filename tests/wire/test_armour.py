from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.errors import Malformed
from tunnel.wire.armour import MAX_TEXT, armour, remove_armour

DATA = bytes(range(80))
ABOUT = "of 0123456789ab; restore: punchtun network import"
TEXT = armour(DATA, ABOUT)
LINES = TEXT.splitlines()


def text(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def test_golden() -> None:
    assert LINES == [
        "punchtun network backup of 0123456789ab; restore: punchtun network import",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIj 28Av",
        "JCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0-P0BBQkNERUZH pfGz",
        "SElKS0xNTk8 SpSW",
        "end of punchtun network backup, 3 lines",
    ]
    assert remove_armour(TEXT) == DATA
    assert max(map(len, LINES)) < 76


@given(st.binary(max_size=300))
def test_what_is_put_in_comes_out(data: bytes) -> None:
    assert remove_armour(armour(data, "")) == data


@pytest.mark.parametrize(
    "mailed",
    [
        TEXT.replace("\n", "\r\n"),
        "".join(f"> {line}\n" for line in LINES),
        "".join(f">> | {line}   \n\n" for line in LINES),
        f"From: me\nSubject: keys\n\nHere it is:\n{TEXT}-- \nmy signature\n",
        text([*LINES[:1], "", *LINES[1:]]),
        f"punchtun network backup, for the safe:\n\n{TEXT}",
        f"punchtun network backup\nAAAA\n{TEXT}",
        TEXT.replace(" of 0123456789ab; restore: punchtun network import", ""),
        TEXT.rstrip("\n"),
    ],
)
def test_what_mail_does_to_it(mailed: str) -> None:
    assert remove_armour(mailed) == DATA


@pytest.mark.parametrize("line", [1, 2, 3])
def test_every_mistyped_letter_is_found_in_its_line(line: int) -> None:
    for position, letter in enumerate(LINES[line]):
        for other in "Ab0-":
            if other == letter:
                continue
            wrong = LINES[line][:position] + other + LINES[line][position + 1 :]
            with pytest.raises(Malformed, match=f"line {line} is"):
                remove_armour(text([*LINES[:line], wrong, *LINES[line + 1 :]]))


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ([], "no line of it begins"),
        (LINES[1:], "no line of it begins"),
        (LINES[:-1], "its last line is missing"),
        (LINES[:3], "its last line is missing"),
        ([*LINES[:3], LINES[4]], "it has 2 lines where 3 should be"),
        ([LINES[0], *LINES[2:]], "line 1 is mistyped, or not in its place"),
        ([LINES[0], LINES[2], LINES[1], *LINES[3:]], "line 1 is mistyped"),
        ([*LINES[:2], LINES[1], *LINES[2:]], "line 2 is mistyped"),
        ([*LINES[:2], LINES[2][:-2], *LINES[3:]], "line 2 is mistyped"),
        ([*LINES[:2], LINES[2] + " x", *LINES[3:]], "line 2 is mistyped"),
    ],
)
def test_what_is_missing_or_in_another_place(lines: list[str], fault: str) -> None:
    with pytest.raises(Malformed, match=fault):
        remove_armour(text(lines))


def test_a_short_line_before_the_last() -> None:
    short = armour(DATA[:20], "").splitlines()[1]
    second = LINES[2]
    with pytest.raises(Malformed, match="line 1 is cut short"):
        remove_armour(text([LINES[0], short, second, "end of punchtun network backup, 2 lines"]))


def test_the_fault_named_is_that_of_the_last_attempt() -> None:
    with pytest.raises(Malformed, match="line 2 is mistyped"):
        remove_armour(text(["punchtun network backup, see below", *LINES[:2], "x", *LINES[3:]]))


def test_it_is_bounded() -> None:
    with pytest.raises(Malformed, match="larger than a backup"):
        remove_armour(TEXT + " " * MAX_TEXT)
