"""One message of every kind, its bytes, and a strategy that makes any other of its kind."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from hypothesis import strategies as st

from tunnel.wire import natpmp, pcp
from tunnel.wire.backup import (
    MAX_MEMORY,
    MAX_PASSES,
    MIN_MEMORY,
    NetworkBackup,
    SealedBackup,
    parse_backup,
    parse_sealed_backup,
)
from tunnel.wire.candidate import (
    MAX_CANDIDATES,
    Announcement,
    Candidate,
    CandidateKind,
    parse_announcement,
)
from tunnel.wire.certificate import Certificate, parse_certificate
from tunnel.wire.check import (
    CallMe,
    Confirm,
    GoodBye,
    Missing,
    Phase,
    Ping,
    Pong,
    Prediction,
    PredictionKind,
    Refusal,
    Seen,
    Where,
    parse_check,
)
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.feeler import Hairpin, parse_hairpin
from tunnel.wire.handshake import (
    CHOICE_AEGIS,
    OFFER_AEGIS,
    CookieReply,
    Initiation,
    Response,
    parse_cookie_reply,
    parse_initiation,
    parse_response,
)
from tunnel.wire.invitation import (
    Admission,
    JoinAnswer,
    JoinRequest,
    JoinStatus,
    ServerUrl,
    encode_base64,
    parse_admission,
    parse_join_answer,
    parse_join_request,
)
from tunnel.wire.nature import Behaviour, MappingState, Nature
from tunnel.wire.rendezvous import (
    MAX_SEALED,
    Acknowledge,
    AnswerFrom,
    Asked,
    Challenge,
    Echo,
    Echoed,
    Gone,
    Grant,
    Granted,
    Introduce,
    Introduction,
    Kept,
    Leave,
    Moved,
    Probe,
    Proof,
    Redeem,
    RefusalReason,
    Refused,
    Register,
    Registered,
    parse_from_node,
    parse_from_server,
)
from tunnel.wire.revocation import (
    DIGESTS_LENGTH,
    MOST_LISTED,
    Revocation,
    RevocationDigest,
    RevocationList,
    parse_revocation,
)
from tunnel.wire.rotation import RotationAnswer, RotationRequest, RotationStatus

Parse = Callable[[bytes], Any]


@dataclass(frozen=True)
class Kind:
    name: str
    parse: Parse
    example: Any
    golden: str
    """The example's bytes in hexadecimal, spaced by field."""
    any: st.SearchStrategy[Any]
    tail: int | None = None
    """How many bytes at the end may be missing unnoticed, being the last field, whose length is
    what is left; None: none, and the message's length is fixed by what is in it."""
    is_open: bool = False
    """Whether bytes after the end are ignored: a newer sender may say more."""

    @property
    def packed(self) -> bytes:
        return bytes.fromhex(self.golden)


def words(bits: int) -> st.SearchStrategy[int]:
    return st.integers(0, 2**bits - 1)


def octets(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


ipv4 = st.integers(0, 2**32 - 1).map(lambda n: str(ipaddress.IPv4Address(n)))
# Not the IPv4-mapped ones: those are written as IPv4.
ipv6 = (
    st.integers(0, 2**128 - 1)
    .map(ipaddress.IPv6Address)
    .filter(lambda a: a.ipv4_mapped is None)
    .map(str)
)
endpoints = st.builds(Endpoint, ipv4 | ipv6, words(16))
candidates = st.builds(
    Candidate,
    st.sampled_from(CandidateKind),
    st.builds(Endpoint, ipv4 | ipv6, st.integers(1, 65535)),
)
candidate_lists = st.lists(candidates, max_size=MAX_CANDIDATES).map(tuple)
sealed = st.binary(max_size=MAX_SEALED)
names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
interfaces = st.builds(
    lambda number, length: ipaddress.IPv4Interface((number, length)), words(32), st.integers(0, 32)
) | st.builds(
    lambda number, length: ipaddress.IPv6Interface((number, length)),
    words(128),
    st.integers(0, 128),
)
networks = interfaces.map(lambda interface: interface.network)
certificates = st.builds(
    Certificate,
    key=octets(32),
    name=names,
    addresses=st.lists(interfaces, max_size=4).map(tuple),
    serial=words(64),
    issued=words(64),
    expires=words(64),
    may_invite=st.booleans(),
    routes=st.lists(networks, max_size=4).map(tuple),
    signature=octets(64),
)

KEY, OTHER_KEY = bytes(range(32)), bytes(range(32, 64))
KEY_HEX = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
OTHER_KEY_HEX = "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
V4, V6 = Endpoint("192.0.2.1", 32853), Endpoint("2001:db8::7", 12345)
V4_HEX = "00000000000000000000ffffc0000201 8055"
V6_HEX = "20010db8000000000000000000000007 3039"
CANDIDATES = (
    Candidate(CandidateKind.HOST, V6),
    Candidate(CandidateKind.SERVER_REFLEXIVE, V4),
)
CANDIDATES_HEX = f"02 01{V6_HEX} 02{V4_HEX}"
CERTIFICATE = Certificate(
    key=KEY,
    name="pi",
    addresses=(
        ipaddress.IPv4Interface("10.9.0.2/24"),
        ipaddress.IPv6Interface("fd00::2/64"),
    ),
    serial=2,
    issued=0x0102,
    expires=0x0304,
    may_invite=True,
    routes=(ipaddress.IPv4Network("192.168.8.0/24"),),
    signature=b"S" * 64,
)
CERTIFICATE_HEX = (
    f"01 01 0200000000000000 0201000000000000 0403000000000000 {KEY_HEX}"
    "02 18 04 0a090002  40 06 fd000000000000000000000000000002"
    "01 18 04 c0a80800"
    "02 7069" + "53" * 64
)

initiations = st.builds(
    Initiation, words(32), octets(32), octets(48), octets(28), octets(16), octets(16), words(8)
)
responses = st.builds(
    Response, words(32), words(32), octets(32), octets(16), octets(16), octets(16), words(8)
)

REVOCATION = Revocation(KEY, 0x0102030405060708, b"S" * 64, OTHER_KEY)
REVOCATION_HEX = f"01 000000 0807060504030201 {KEY_HEX} {OTHER_KEY_HEX}" + "53" * 64
revocations = st.builds(Revocation, octets(32), words(64), octets(64), octets(32))

KINDS = [
    Kind(
        "initiation",
        parse_initiation,
        Initiation(0x01020304, b"e" * 32, b"s" * 48, b"t" * 28, b"m" * 16, b"n" * 16),
        "01 000000 04030201" + "65" * 32 + "73" * 48 + "74" * 28 + "6d" * 16 + "6e" * 16,
        initiations,
    ),
    Kind(
        "initiation that offers AEGIS-128L",
        parse_initiation,
        Initiation(0x01020304, b"e" * 32, b"s" * 48, b"t" * 28, offer=OFFER_AEGIS),
        "01 010000 04030201" + "65" * 32 + "73" * 48 + "74" * 28 + "00" * 32,
        initiations,
    ),
    Kind(
        "response",
        parse_response,
        Response(0x01020304, 0x05060708, b"e" * 32, b"t" * 16),
        "02 000000 04030201 08070605" + "65" * 32 + "74" * 16 + "00" * 32,
        responses,
    ),
    Kind(
        "response that chooses AEGIS-128L",
        parse_response,
        Response(0x01020304, 0x05060708, b"e" * 32, b"t" * 16, choice=CHOICE_AEGIS),
        "02 010000 04030201 08070605" + "65" * 32 + "74" * 16 + "00" * 32,
        responses,
    ),
    Kind(
        "cookie reply",
        parse_cookie_reply,
        CookieReply(0x05060708, b"n" * 24, b"c" * 32),
        "03 000000 08070605" + "6e" * 24 + "63" * 32,
        st.builds(CookieReply, words(32), octets(24), octets(32)),
    ),
    Kind(
        "certificate",
        parse_certificate,
        CERTIFICATE,
        CERTIFICATE_HEX,
        certificates,
    ),
    Kind(
        "announcement",
        parse_announcement,
        Announcement(0x01020304, 0x0506, b"certificate", CANDIDATES),
        f"01 04030201 0605000000000000 0b00 6365727469666963617465 {CANDIDATES_HEX}",
        st.builds(Announcement, words(32), words(64), st.binary(max_size=300), candidate_lists),
    ),
    Kind(
        "revocation",
        parse_revocation,
        REVOCATION,
        REVOCATION_HEX,
        revocations,
    ),
    Kind(
        "revocation digest",
        parse_check,
        RevocationDigest(bytes(range(128)), wants_answer=True),
        "0b 01 0000" + bytes(range(128)).hex(),
        st.builds(RevocationDigest, octets(DIGESTS_LENGTH), st.booleans()),
        is_open=True,
    ),
    Kind(
        "revocation list",
        parse_check,
        RevocationList((REVOCATION, REVOCATION)),
        f"0c 02 0000 {REVOCATION_HEX} {REVOCATION_HEX}",
        st.lists(revocations, min_size=1, max_size=MOST_LISTED).map(
            lambda listed: RevocationList(tuple(listed))
        ),
        is_open=True,
    ),
    Kind(
        "rotation request",
        parse_check,
        RotationRequest(KEY, b"P" * 32),
        f"0d 000000 {KEY_HEX}" + "50" * 32,
        st.builds(RotationRequest, octets(32), octets(32)),
        is_open=True,
    ),
    Kind(
        "rotation answer",
        parse_check,
        RotationAnswer(RotationStatus.GRANTED, b"certificate", REVOCATION),
        f"0e 00 0b00 6365727469666963617465 {REVOCATION_HEX}",
        st.builds(
            RotationAnswer,
            st.just(RotationStatus.GRANTED),
            st.binary(min_size=1, max_size=300),
            revocations,
        ),
        is_open=True,
    ),
    Kind(
        "rotation refused",
        parse_check,
        RotationAnswer(RotationStatus.TAKEN),
        "0e 02 0000",
        st.sampled_from([RotationStatus.TAKEN, RotationStatus.NO_INVITER]).map(RotationAnswer),
        is_open=True,
    ),
    Kind(
        "hairpin",
        parse_hairpin,
        Hairpin(b"T" * 16),
        "06 000000" + "54" * 16,
        st.builds(Hairpin, octets(16)),
    ),
    Kind(
        "ping",
        parse_check,
        Ping(0x0102030405060708, 16),
        "01 000000 0807060504030201 00000000",
        st.builds(Ping, words(64), st.integers(12, 1500)),
        tail=4,
        is_open=True,
    ),
    Kind(
        "pong",
        parse_check,
        Pong(1, 0x0102030405060708, V4),
        f"02 000000 0100000000000000 0807060504030201 {V4_HEX}",
        st.builds(Pong, words(64), words(64), endpoints),
        is_open=True,
    ),
    Kind(
        "confirm",
        parse_check,
        Confirm(0x0102030405060708),
        "03 000000 0807060504030201",
        st.builds(Confirm, words(64)),
        is_open=True,
    ),
    Kind(
        "call-me",
        parse_check,
        CallMe(0x0102, CANDIDATES),
        f"04 00 0201 {CANDIDATES_HEX}",
        st.builds(CallMe, words(16), candidate_lists),
    ),
    Kind(
        "missing",
        parse_check,
        Missing(0x0102, 0x03040506, 0x0708090A0B0C0D0E),
        "06 00 0201 06050403 0e0d0c0b0a090807",
        st.builds(Missing, words(16), words(32), words(64)),
        is_open=True,
    ),
    Kind(
        "where",
        parse_check,
        Where(b"M" * 32),
        "07 000000" + "4d" * 32 + "00" * 18,
        st.builds(Where, octets(32)),
        is_open=True,
    ),
    Kind(
        "seen",
        parse_check,
        Seen(b"M" * 32, Endpoint("192.0.2.1", 0x0102)),
        "08 000000" + "4d" * 32 + "00000000000000000000ffffc0000201 0102",
        st.builds(Seen, octets(32), endpoints),
        is_open=True,
    ),
    Kind(
        "prediction",
        parse_check,
        Prediction(
            Phase.ANSWER,
            PredictionKind.SCATTERED,
            1,
            0x01020304,
            0x0506,
            0x0708,
            Endpoint("192.0.2.1", 0x090A),
            0x0B0C,
        ),
        "09 02 03 01 04030201 0605 0807 00000000000000000000ffffc0000201 090a 0c0b",
        st.builds(
            Prediction,
            st.sampled_from([Phase.ASK, Phase.ANSWER]),
            st.sampled_from(PredictionKind),
            words(8),
            words(32),
            words(16).filter(bool),
            words(16),
            endpoints.filter(lambda endpoint: endpoint.port != 0),
            words(16).filter(bool),
        ),
        is_open=True,
    ),
    Kind(
        "prediction declined",
        parse_check,
        Prediction(Phase.DECLINE, Refusal.HOPELESS, 0, 7, 0, 0, Endpoint("::", 0), 0),
        "09 03 03 00 07000000 0000 0000" + "00" * 18 + "0000",
        st.builds(
            Prediction,
            st.just(Phase.DECLINE),
            st.sampled_from(Refusal),
            words(8),
            words(32),
            words(16),
            words(16),
            endpoints,
            words(16),
        ),
        is_open=True,
    ),
    Kind(
        "nature",
        parse_check,
        Nature(
            Behaviour.ADDRESS_AND_PORT_DEPENDENT,
            Behaviour.ADDRESS_DEPENDENT,
            False,
            True,
            MappingState.UNAVAILABLE,
            2,
            has_fixed_port=True,
            has_carrier_nat=True,
        ),
        "0a 01 03 02 01 02 06 02 1400 0000",
        st.builds(
            Nature,
            st.sampled_from(Behaviour),
            st.sampled_from(Behaviour),
            st.none() | st.booleans(),
            st.none() | st.booleans(),
            st.sampled_from(MappingState),
            words(8),
            *[st.booleans()] * 6,
        ),
        is_open=True,
    ),
    Kind("good-bye", parse_check, GoodBye(), "05 000000", st.just(GoodBye()), is_open=True),
    Kind(
        "register",
        parse_from_node,
        Register(1, 20_000, b"N" * 16, b"sealed"),
        "01 000000 01000000 204e0000" + "4e" * 16 + "0600 7365616c6564",
        st.builds(Register, words(32), words(32), octets(16), sealed),
        is_open=True,
    ),
    Kind(
        "echo",
        parse_from_node,
        Echo(0x0102030405060708, 20_000),
        "02 000000 0807060504030201 204e0000" + "00" * 16,
        st.builds(Echo, words(64), words(32)),
        is_open=True,
    ),
    Kind(
        "acknowledge",
        parse_from_node,
        Acknowledge(0x01020304),
        "03 000000 04030201",
        st.builds(Acknowledge, words(32)),
        is_open=True,
    ),
    Kind(
        "introduce",
        parse_from_node,
        Introduce(KEY),
        f"04 000000 {KEY_HEX}",
        st.builds(Introduce, octets(32)),
        is_open=True,
    ),
    Kind(
        "redeem",
        parse_from_node,
        Redeem(0x0102030405060708, KEY, b"sealed"),
        f"05 000000 0807060504030201 {KEY_HEX} 0600 7365616c6564",
        st.builds(Redeem, words(64), octets(32), sealed),
        is_open=True,
    ),
    Kind(
        "grant",
        parse_from_node,
        Grant(0x0102030405060708, KEY, b"sealed"),
        f"06 000000 0807060504030201 {KEY_HEX} 0600 7365616c6564",
        st.builds(Grant, words(64), octets(32), sealed),
        is_open=True,
    ),
    Kind(
        "probe",
        parse_from_node,
        Probe(0x0102030405060708, 12_000),
        "08 000000 0807060504030201 e02e0000" + "00" * 16,
        st.builds(Probe, words(64), words(32), words(8)),
        is_open=True,
    ),
    Kind(
        "probe to be answered from elsewhere",
        parse_from_node,
        Probe(0x0102030405060708, 0, AnswerFrom.OTHER_ADDRESS),
        "08 000000 0807060504030201 00000000 02" + "00" * 15,
        st.builds(Probe, words(64), words(32), st.sampled_from(AnswerFrom)),
        is_open=True,
    ),
    # A kind byte is all a leave needs.
    Kind("leave", parse_from_node, Leave(), "07 000000", st.just(Leave()), tail=3, is_open=True),
    Kind(
        "registered",
        parse_from_server,
        Registered(0x01020304, V4, 12346, 60),
        f"81 00 3a30 04030201 {V4_HEX} 3c00",
        st.builds(Registered, words(32), endpoints, words(16), words(16), st.none(), st.none()),
        is_open=True,
    ),
    Kind(
        "registered with two addresses",
        parse_from_server,
        Registered(0x01020304, V4, 12346, 60, V6),
        f"81 00 3a30 04030201 {V4_HEX} 3c00 {V6_HEX}",
        st.builds(
            Registered,
            words(32),
            endpoints,
            words(16),
            words(16),
            endpoints.filter(lambda endpoint: endpoint != Endpoint("::", 0)),
            st.none(),
        ),
        tail=18,
        is_open=True,
    ),
    Kind(
        "registered with the time",
        parse_from_server,
        Registered(0x01020304, V4, 12346, 60, None, 0x0102030405060708),
        f"81 00 3a30 04030201 {V4_HEX} 3c00" + "00" * 18 + "0807060504030201",
        st.builds(
            Registered,
            words(32),
            endpoints,
            words(16),
            words(16),
            st.none() | endpoints.filter(lambda endpoint: endpoint != Endpoint("::", 0)),
            words(64),
        ),
        tail=26,
        is_open=True,
    ),
    Kind(
        "echoed",
        parse_from_server,
        Echoed(0x0102030405060708, 1, V6),
        f"82 01 0000 0807060504030201 {V6_HEX}",
        st.builds(Echoed, words(64), words(8), endpoints, st.none()),
        is_open=True,
    ),
    Kind(
        "echoed with the time",
        parse_from_server,
        Echoed(0x0102030405060708, 1, V6, 0x0102030405060708),
        f"82 01 0000 0807060504030201 {V6_HEX} 0807060504030201",
        st.builds(Echoed, words(64), words(8), endpoints, words(64)),
        tail=8,
        is_open=True,
    ),
    Kind(
        "introduction",
        parse_from_server,
        Introduction(7, 0x0102, 20_000, 9, KEY, V4, b"sealed"),
        f"83 00 0201 07000000 204e0000 09000000 {KEY_HEX} {V4_HEX} 0600 7365616c6564",
        st.builds(
            Introduction,
            words(32),
            words(16),
            words(32),
            words(32),
            octets(32),
            endpoints,
            sealed,
        ),
        is_open=True,
    ),
    Kind(
        "moved",
        parse_from_server,
        Moved(7, KEY, V4),
        f"84 000000 07000000 {KEY_HEX} {V4_HEX}",
        st.builds(Moved, words(32), octets(32), endpoints),
        is_open=True,
    ),
    Kind(
        "gone",
        parse_from_server,
        Gone(7, KEY),
        f"85 000000 07000000 {KEY_HEX}",
        st.builds(Gone, words(32), octets(32)),
        is_open=True,
    ),
    Kind(
        "asked",
        parse_from_server,
        Asked(7, 0x0102030405060708, KEY, b"sealed"),
        f"86 000000 07000000 0807060504030201 {KEY_HEX} 0600 7365616c6564",
        st.builds(Asked, words(32), words(64), octets(32), sealed),
        is_open=True,
    ),
    Kind(
        "granted",
        parse_from_server,
        Granted(7, 0x0102030405060708, b"sealed"),
        "87 000000 07000000 0807060504030201 0600 7365616c6564",
        st.builds(Granted, words(32), words(64), sealed),
        is_open=True,
    ),
    Kind(
        "refused",
        parse_from_server,
        Refused(RefusalReason.TOO_MANY, 0x0102030405060708),
        "88 02 0000 0807060504030201",
        st.builds(Refused, st.sampled_from(RefusalReason), words(64), st.none()),
        is_open=True,
    ),
    Kind(
        "refused until",
        parse_from_server,
        Refused(RefusalReason.RELAY_QUOTA, 0, 1_796_083_200),
        "88 15 0000 0000000000000000 000e0e6b00000000",
        st.builds(Refused, st.sampled_from(RefusalReason), words(64), words(64)),
        tail=8,
        is_open=True,
    ),
    Kind(
        "challenge",
        parse_from_server,
        Challenge(0x0102030405060708),
        "8f 000000 0807060504030201",
        st.builds(Challenge, words(64)),
        is_open=True,
    ),
    Kind(
        "proof",
        parse_from_node,
        Proof(0x0102030405060708),
        "0f 000000 0807060504030201",
        st.builds(Proof, words(64)),
        is_open=True,
    ),
    Kind(
        "kept",
        parse_from_server,
        Kept(0x0102030405060708),
        "89 000000 0807060504030201",
        st.builds(Kept, words(64)),
        is_open=True,
    ),
    Kind(
        "join request",
        parse_join_request,
        JoinRequest(b"12345678", b"sealed"),
        "01 3132333435363738 7365616c6564",
        st.builds(JoinRequest, octets(8), st.binary(min_size=1, max_size=200)),
        tail=5,
    ),
    Kind(
        "join answer",
        parse_join_answer,
        JoinAnswer(JoinStatus.EXPIRED, b"sealed"),
        "01 02 7365616c6564",
        st.builds(JoinAnswer, st.sampled_from(JoinStatus), st.binary(min_size=1, max_size=200)),
        tail=5,
    ),
    Kind(
        "admission",
        parse_admission,
        Admission(KEY, OTHER_KEY, b"certificate", b"inviter's", (b"revoked1",)),
        f"{KEY_HEX} {OTHER_KEY_HEX} 0900 696e76697465722773 0b00 6365727469666963617465"
        " 01 7265766f6b656431",
        st.builds(
            Admission,
            octets(32),
            octets(32),
            st.binary(min_size=1, max_size=300),
            st.binary(max_size=300),
            st.lists(octets(8), max_size=5).map(tuple),
        ),
    ),
    Kind(
        "sealed backup",
        parse_sealed_backup,
        SealedBackup(4, 65536, b"S" * 16, b"sealed"),
        "01 01 0000 04000000 00000100" + "53" * 16 + "7365616c6564",
        st.builds(
            SealedBackup,
            st.integers(1, MAX_PASSES),
            st.integers(MIN_MEMORY, MAX_MEMORY),
            octets(16),
            st.binary(min_size=1, max_size=300),
        ),
        tail=5,
    ),
    Kind(
        "backup",
        parse_backup,
        NetworkBackup(
            KEY,
            OTHER_KEY,
            0x0102,
            ServerUrl("192.0.2.1", 7, KEY, bytes(16)),
            (CERTIFICATE,) * 2,
            (REVOCATION,),
        ),
        f"{KEY_HEX} {OTHER_KEY_HEX} 0201000000000000 5700"
        + f"punchtun://192.0.2.1:7/{encode_base64(KEY + bytes(16))}".encode().hex()
        + f"02000000 {len(CERTIFICATE.pack()):02x}00 {CERTIFICATE_HEX}"
        + f"{len(CERTIFICATE.pack()):02x}00 {CERTIFICATE_HEX}"
        + f"01000000 {REVOCATION.pack().hex()}",
        st.builds(
            NetworkBackup,
            octets(32),
            octets(32),
            words(64),
            st.builds(
                ServerUrl, ipv4 | ipv6 | names, st.integers(1, 65535), octets(32), octets(16)
            ),
            st.lists(certificates, max_size=3).map(tuple),
            st.lists(revocations, max_size=3).map(tuple),
        ),
    ),
    Kind(
        "nat-pmp address",
        natpmp.parse_response,
        natpmp.AddressResponse(0x01020304, "203.0.113.9"),
        "00 80 0000 01020304 cb007109",
        st.builds(natpmp.AddressResponse, words(32), ipv4),
    ),
    Kind(
        "nat-pmp mapping",
        natpmp.parse_response,
        natpmp.MapResponse(0x01020304, 51820, 40000, 7200),
        "00 81 0000 01020304 ca6c 9c40 00001c20",
        st.builds(natpmp.MapResponse, words(32), words(16), words(16), words(32)),
    ),
    Kind(
        "nat-pmp error",
        natpmp.parse_response,
        natpmp.ErrorResponse(1, 2, 0x01020304),
        "00 81 0002 01020304",
        st.builds(natpmp.ErrorResponse, words(7), st.integers(1, 0xFFFF), words(32)),
    ),
    Kind(
        "pcp mapping",
        pcp.parse_response,
        pcp.MapResponse(0, 7200, 0x01020304, b"0123456789ab", 17, 51820, V4),
        "02 81 00 00 00001c20 01020304 000000000000000000000000"
        "303132333435363738396162 11 000000 ca6c 8055 00000000000000000000ffffc0000201",
        st.builds(
            pcp.MapResponse,
            words(8),
            words(32),
            words(32),
            octets(12),
            words(8),
            words(16),
            endpoints,
        ),
    ),
    Kind(
        "pcp announcement",
        pcp.parse_response,
        pcp.Announcement(0x01020304),
        "02 80 00 00 00000000 01020304 000000000000000000000000",
        st.builds(pcp.Announcement, words(32)),
    ),
    Kind(
        "pcp error",
        pcp.parse_response,
        pcp.BareError(1, 0x01020304),
        "02 81 00 01 00000000 01020304 000000000000000000000000",
        st.builds(pcp.BareError, st.integers(1, 0xFF), words(32)),
    ),
]

PARSERS: dict[str, Parse] = {
    "initiation": parse_initiation,
    "response": parse_response,
    "cookie reply": parse_cookie_reply,
    "certificate": parse_certificate,
    "announcement": parse_announcement,
    "revocation": parse_revocation,
    "check": parse_check,
    "hairpin": parse_hairpin,
    "from node": parse_from_node,
    "from server": parse_from_server,
    "join request": parse_join_request,
    "join answer": parse_join_answer,
    "admission": parse_admission,
    "nat-pmp": natpmp.parse_response,
    "pcp": pcp.parse_response,
}

by_name = partial(st.sampled_from, KINDS)
