"""The bytes in docs/protocol.md and docs/protocol/ are those of the code, and none is missing."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

import tunnel.wire
from tests.protocol.document import DOCS, PAGES, read_golden, read_vectors
from tests.protocol.vectors import VECTORS
from tests.wire.messages import KINDS, V4, Kind
from tests.wire.test_endpoint import GOLDEN as ENDPOINTS
from tests.wire.test_segment import GOLDEN as CUTS
from tests.wire.test_train import PING as ICMP
from tests.wire.test_train import SMALL_HEX, TCP4, UDP6
from tunnel.wire import natpmp, pcp
from tunnel.wire.certificate import SIGNATURE_LENGTH
from tunnel.wire.check import parse_check
from tunnel.wire.endpoint import Endpoint, pack_endpoint, unpack_endpoint
from tunnel.wire.feeler import Feeler
from tunnel.wire.fragment import Fragment, parse_fragment
from tunnel.wire.http import pack_connect
from tunnel.wire.nature import Nature
from tunnel.wire.relay import pack_relay, parse_relay
from tunnel.wire.stream import StreamParser, pack_stream
from tunnel.wire.stun import pack_binding_success, parse_binding_request
from tunnel.wire.train import packet_of, split_bundle
from tunnel.wire.transport import pack_header
from tunnel.wire.virtio import Virtio

HOW = (
    "Document it: a block ```golden NAME in docs/protocol/*.md with its bytes (tests/protocol/"
    "document.py has the form), beside layout and behaviour; and a Kind of that NAME in "
    "tests/wire/messages.py, or a line in OTHERS here."
)

ANY_ENDPOINT = Endpoint("0.0.0.0", 0)
OTHERS: dict[str, Any] = {
    "feeler": Feeler(),
    "fragment": Fragment(0x01020304, 0, False, b"ab"),
    "last fragment": Fragment(0xFFFFFFFF, 127, True, b"z"),
    "NAT-PMP address request": natpmp.AddressRequest(),
    "NAT-PMP mapping request": natpmp.MapRequest(51820, 40000, 7200),
    "PCP mapping request": pcp.MapRequest(
        "192.168.1.2", b"0123456789ab", 51820, ANY_ENDPOINT, 7200
    ),
}
"""Messages that nobody here parses, or that are told from others by their place."""

FUNCTIONS: dict[str, tuple[Callable[..., bytes], bytes]] = {
    "endpoint": (pack_endpoint, pack_endpoint(Endpoint("192.0.2.1", 1))),
    "frame header": (pack_header, pack_header(0x01020304, 0x05060708090A0B0C)),
    "frame header in a train": (pack_header, pack_header(0x01020304, 0x05060708090A0B0C, 42)),
    "relay envelope": (pack_relay, pack_relay(0x01020304, b"inner")),
    "stream": (pack_stream, pack_stream(b"abc") + pack_stream(b"\1\2")),
    "STUN answer": (pack_binding_success, pack_binding_success(bytes(range(12)), V4)),
    "HTTP CONNECT": (pack_connect, pack_connect("vps.example.org", 443, "dTpw")),
}
"""What is made by a function: it, and the bytes."""

PART_OF_OTHERS = {
    "pack_candidates": "call-me",
    "pack_train": "train, place 0",
    "pack_answer": "",  # Of HTTP, for people who look with a browser.
    "pack_program": "",
}
"""Functions whose bytes stand in another block."""

NOT_OF_THE_PROTOCOL = {Virtio}
"""What passes between a node and its own kernel, as does what `pack_program` makes."""


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.iter_modules(tunnel.wire.__path__):
        yield importlib.import_module(f"tunnel.wire.{found.name}")


def messages_of(module: ModuleType) -> Iterator[type]:
    for member in vars(module).values():
        if (
            inspect.isclass(member)
            and member.__module__ == module.__name__
            and "pack" in vars(member)
        ):
            yield member


MESSAGES = {message for module in modules() for message in messages_of(module)}


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_every_kind_is_documented(kind: Kind) -> None:
    assert kind.name in read_golden(), f"no bytes of '{kind.name}'. {HOW}"
    golden = read_golden()[kind.name]
    assert golden.hex() == kind.packed.hex()
    assert kind.parse(golden) == kind.example
    assert kind.example.pack() == golden


def test_every_message_of_the_code_is_documented() -> None:
    kinds = {kind.name: type(kind.example) for kind in KINDS}
    documented = {kinds[name] for name in read_golden() if name in kinds}
    documented |= {type(OTHERS[name]) for name in read_golden() if name in OTHERS}
    assert len(MESSAGES) > 40
    missing = {f"{message.__module__}.{message.__name__}" for message in MESSAGES - documented}
    missing -= {f"{message.__module__}.{message.__name__}" for message in NOT_OF_THE_PROTOCOL}
    assert not missing, f"not in the document: {sorted(missing)}. {HOW}"


def test_every_function_that_packs_is_documented() -> None:
    found = {
        name
        for module in modules()
        for name, member in vars(module).items()
        if name.startswith("pack_") and callable(member)
    }
    known = {function.__name__ for function, _ in FUNCTIONS.values()} | set(PART_OF_OTHERS)
    assert found == known, f"not in the document: {sorted(found - known)}. {HOW}"
    assert {block for block in PART_OF_OTHERS.values() if block} <= set(read_golden())


@pytest.mark.parametrize("name", OTHERS)
def test_messages_without_a_kind(name: str) -> None:
    assert read_golden()[name] == OTHERS[name].pack()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_functions_make(name: str) -> None:
    assert read_golden()[name] == FUNCTIONS[name][1]


def test_what_is_parsed_by_functions() -> None:
    golden = read_golden()
    assert unpack_endpoint(golden["endpoint"]) == Endpoint("192.0.2.1", 1)
    assert parse_relay(golden["relay envelope"]) == (0x01020304, b"inner")
    assert StreamParser().feed(golden["stream"]) == [b"abc", b"\1\2"]
    assert parse_binding_request(golden["STUN request"]) == bytes(range(12))
    for name in ("fragment", "last fragment"):
        assert parse_fragment(golden[name]) == OTHERS[name]


def test_nature_of_a_later_version() -> None:
    later = parse_check(read_golden()["nature of a later version"])
    assert later == Nature(*Nature()[:5], 3, *[True] * 6)


def test_bundle() -> None:
    golden = read_golden()["bundle"]
    complete = bytes.fromhex("45" + SMALL_HEX.format("9c35"))
    assert golden == bytes.fromhex("c5" + SMALL_HEX.format("1433")) + ICMP + complete
    assert split_bundle(golden) == [complete, ICMP, complete]


def test_trains() -> None:
    golden = read_golden()
    for name, superpacket in (("train", TCP4), ("train of UDP", UDP6)):
        frames = superpacket.frames
        assert [golden[f"{name}, place {place}"] for place in range(len(frames))] == frames
    for place in range(3):
        packet = packet_of(golden[f"train, place {place}"], place)
        assert golden[f"train, packet {place}"] == packet


def test_every_golden_block_is_read_by_a_test() -> None:
    known = {kind.name for kind in KINDS} | set(OTHERS) | set(FUNCTIONS)
    known |= {"STUN request", "bundle", "nature of a later version"}
    known |= {f"train, {what} {place}" for what in ("place", "packet") for place in range(3)}
    known |= {f"train of UDP, place {place}" for place in range(2)}
    assert set(read_golden()) - known == set()


@pytest.mark.parametrize("name", VECTORS)
def test_vectors(name: str) -> None:
    values = read_vectors()[name]
    results = VECTORS[name](values)
    assert results
    for key, result in results.items():
        assert values[key].hex() == result.hex(), key
    assert set(results) <= set(values)


def test_every_vector_is_read_by_a_test() -> None:
    assert set(read_vectors()) == set(VECTORS)


def test_golden_tables_of_other_tests_are_documented() -> None:
    vectors = read_vectors()
    documented = {name: value.hex() for name, value in vectors["endpoints"].items()}
    assert documented == {f"{host} port {port}": golden for (host, port), golden in ENDPOINTS}
    cuts = [value for name, value in vectors.items() if name.startswith("cut, ")]
    assert len(cuts) == len(CUTS)
    for superpacket, packet, parts in CUTS:
        (found,) = [values for values in cuts if values["superpacket"] == superpacket.packet]
        assert found["superpacket"] == bytes.fromhex(packet)
        packets = [bytes.fromhex(part) for part in parts.split("|")]
        assert [found[f"packet {place}"] for place in range(len(packets))] == packets


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]*)(#[^)]*)?\)", text):
            path, anchor = target
            other = (page.parent / path).resolve() if path else page
            assert other.is_relative_to(DOCS), f"{page.name}: {path}"
            assert other.is_file(), f"{page.name}: {path}"
            if anchor:
                headings = re.findall(r"^#+ (.+)$", other.read_text(encoding="utf-8"), re.MULTILINE)
                anchors = {
                    "#" + re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
                    for heading in headings
                }
                assert anchor in anchors, f"{page.name}: {path}{anchor}"


def test_the_signature_is_as_long_as_documented() -> None:
    vector = read_vectors()["certificate"]
    assert len(vector["certificate"]) - len(vector["signed part"]) == SIGNATURE_LENGTH
