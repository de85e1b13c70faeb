"""What NAT-PMP and PCP ask, and what of their answers the table of messages does not show."""

from __future__ import annotations

import pytest
from hypothesis import given

from tests.wire.messages import V4, ipv4, octets, words
from tunnel.errors import Malformed
from tunnel.wire import natpmp, pcp
from tunnel.wire.endpoint import Endpoint

PCP_MAPPING = pcp.MapResponse(0, 7200, 9, b"0123456789ab", 17, 51820, V4).pack()


def test_nat_pmp_requests() -> None:
    """RFC 6886 §3.2 and §3.3."""
    assert natpmp.AddressRequest().pack().hex() == "0000"
    request = natpmp.MapRequest(51820, 40000, 7200)
    assert request.pack() == bytes.fromhex("00 01 0000 ca6c 9c40 00001c20")


def test_pcp_request() -> None:
    """RFC 6887 §7.1 and §11.1: 60 bytes."""
    request = pcp.MapRequest("192.168.1.2", b"0123456789ab", 51820, Endpoint("0.0.0.0", 0), 7200)
    assert request.pack() == bytes.fromhex(
        "02 01 0000 00001c20 00000000000000000000ffffc0a80102"
        "303132333435363738396162 11 000000 ca6c 0000 00000000000000000000ffff00000000"
    )


@given(ipv4, octets(12), words(16), ipv4, words(16), words(32))
def test_pcp_requests_have_one_length(
    client: str, nonce: bytes, port: int, host: str, external: int, lifetime: int
) -> None:
    packed = pcp.MapRequest(client, nonce, port, Endpoint(host, external), lifetime).pack()
    assert len(packed) == 60
    # The body of the answer is that of the request.
    answer = pcp.parse_response(PCP_MAPPING[:24] + packed[24:])
    assert answer == pcp.MapResponse(0, 7200, 9, nonce, 17, port, Endpoint(host, external))


def test_pcp_nonce_of_another_length_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="a nonce has 12 bytes"):
        pcp.MapRequest("192.168.1.2", b"short", 1, V4, 0).pack()


@pytest.mark.parametrize(
    "options",
    [
        "",
        "01 00 0010 00000000000000000000ffffc0a80102",  # THIRD_PARTY
        "80 00 0005 0102030405000000 ff 00 0000",
    ],
)
def test_pcp_options_are_skipped(options: str) -> None:
    assert pcp.parse_response(PCP_MAPPING + bytes.fromhex(options)) == pcp.parse_response(
        PCP_MAPPING
    )


@pytest.mark.parametrize("options", ["01 00 0001", "01 00 ffff 00000000", "00 00 0000 01 00 0004"])
def test_pcp_option_longer_than_the_message(options: str) -> None:
    with pytest.raises(Malformed, match=r"^pcp option length$"):
        pcp.parse_response(PCP_MAPPING + bytes.fromhex(options))


def test_pcp_longer_than_any() -> None:
    """RFC 6887 §7: at most 1100 bytes."""
    option = bytes.fromhex("80000000")
    room = (1100 - len(PCP_MAPPING)) // 4
    pcp.parse_response(PCP_MAPPING + option * room)
    with pytest.raises(Malformed, match=r"^pcp length$"):
        pcp.parse_response(PCP_MAPPING + option * (room + 1))


@pytest.mark.parametrize(
    ("parse", "datagram", "reason"),
    [
        (natpmp.parse_response, natpmp.MapRequest(1, 2, 3).pack(), "nat-pmp request"),
        (natpmp.parse_response, PCP_MAPPING, "nat-pmp version"),
        (natpmp.parse_response, bytes.fromhex("0082000000000001") + bytes(8), "nat-pmp operation"),
        (natpmp.parse_response, bytes.fromhex("008000010000000100"), "nat-pmp length"),
        (pcp.parse_response, pcp.MapRequest("10.0.0.1", bytes(12), 1, V4, 3).pack(), "pcp request"),
        (pcp.parse_response, natpmp.MapResponse(1, 2, 3, 4).pack() + bytes(8), "pcp version"),
        (pcp.parse_response, b"\x02\x82" + PCP_MAPPING[2:], "pcp opcode"),
        (pcp.parse_response, b"\x02\x80\0\x01" + bytes(20), "pcp announcement of an error"),
        (pcp.parse_response, PCP_MAPPING[:24], "pcp length"),
    ],
)
def test_what_is_no_answer(parse: object, datagram: bytes, reason: str) -> None:
    assert callable(parse)
    with pytest.raises(Malformed, match=f"^{reason}$"):
        parse(datagram)


def test_how_a_nat_pmp_router_answers_pcp() -> None:
    """RFC 6887 appendix A: version 0, result 1, whatever follows the epoch."""
    for rest in (b"", bytes(4), bytes(8)):
        answer = natpmp.parse_response(bytes.fromhex("00 81 0001 00000009") + rest)
        assert answer == natpmp.ErrorResponse(1, natpmp.UNSUPPORTED_VERSION, 9)


def test_reasons_are_words() -> None:
    assert natpmp.ErrorResponse(1, 2, 0).reason == "not authorized"
    assert natpmp.ErrorResponse(1, 77, 0).reason == "result 77"
    assert pcp.BareError(4, 0).reason == "unsupported opcode"
    assert pcp.MapResponse(200, 0, 0).reason == "result 200"
