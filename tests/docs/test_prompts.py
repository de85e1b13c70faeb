"""How blocks with prompts are read, and compared with what programs say."""

from __future__ import annotations

import pytest

from .markdown import ROOT, Page, read_page
from .prompts import learn, steps_in, substitute


def test_steps_have_a_machine_a_command_and_an_answer() -> None:
    page = Page("```\na$    one 'x'\nsaid\nmore\npi$   two\n```\n\n```\nnot a$ step\n```\n")
    steps = steps_in(page)
    assert [tuple(step) for step in steps] == [
        ("a", "one 'x'", ("said", "more")),
        ("pi", "two", ()),
    ]


def test_what_changes_is_learned_and_used() -> None:
    known: dict[str, str] = {}
    said = "so:\npunchtun: created network 0123456789ab (10.1.2.0/24); x\n"
    assert learn("punchtun: created network 9522fcc09168 (10.192.213.0/24); x", said, known)
    assert known == {"9522fcc09168": "0123456789ab", "10.192.213.0/24": "10.1.2.0/24"}
    assert learn("punchtun-join:…", "punchtun-join:QUJD-_x", known)
    assert substitute("up 'punchtun-join:…'", known) == "up 'punchtun-join:QUJD-_x'"


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ("a is 10.1.1.1 on interface punchtun0", "a is 10.1.1.1 on interface punchtun0 now"),
        ("joined network 9522fcc09168", "joined network fedcba987654"),
        ("ready: a", "not ready: a"),
        ("punchtun-join:…", "punchtun-join:"),
    ],
)
def test_another_answer_is_seen(expected: str, said: str) -> None:
    known = {"9522fcc09168": "0123456789ab"}
    assert not learn(expected, said, known)
    assert known == {"9522fcc09168": "0123456789ab"}


def test_what_nobody_said_is_not_substituted() -> None:
    with pytest.raises(KeyError):
        substitute("ping 10.192.213.2", {})


def test_the_readme_has_steps_for_its_three_machines() -> None:
    steps = steps_in(read_page(ROOT / "README.md"))
    assert {step.machine for step in steps} == {"vps", "a", "pi"}
    assert len(steps) >= 9
