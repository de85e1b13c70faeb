"""One target per parser. Each says its invariant in words, and returns or fails an assertion.

Any exception that leaves a target is a finding. A target is given bytes and nothing else, so that
any fuzzer can drive it; ``corpus`` gives it something to begin with.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from tests.core.ends import SERVER, URL, WALL, Clock, Network, key, make_server, seeded
from tests.core.expulsion_ends import SIGNED as EVERYBODY
from tests.core.expulsion_ends import Talker
from tests.core.gateway import Gateway, Mapping
from tests.core.guessing_ends import Pair
from tests.core.test_node import Alone
from tests.dataplane.arrivals import Arrival, Receiver, arrive, check_opened
from tests.dataplane.ciphers import CIPHERS as CIPHERS_WITH_KEYS
from tests.fuzz.stored import read_stored
from tests.wire.messages import CANDIDATES, KINDS, Kind
from tests.wire.superpackets import SEEDS as SUPERPACKETS
from tests.wire.test_packet import ipv4, ipv6
from tests.wire.test_stun import REQUEST
from tests.wire.test_stun import request as stun_request
from tunnel.core.attempt import GuessState
from tunnel.core.candidates import admit_candidates, is_public
from tunnel.core.fresh_sockets import MAX_FRESH
from tunnel.core.machine import FIRST_STREAM
from tunnel.core.membership import join_key
from tunnel.core.names import format_names, parse_names
from tunnel.core.path import RELAYED
from tunnel.core.reassembly import Reassembler
from tunnel.core.revocations import Revocations, sign_revocation
from tunnel.core.traversal import Traversal
from tunnel.core.upnp_operations import UpnpResult
from tunnel.drivers.stream_protocol import WebSocketClient, WebSocketServer
from tunnel.drivers.web import OneRequest
from tunnel.drivers.web_page import Page
from tunnel.errors import AuthenticationFailed, Malformed
from tunnel.noise.frame_cipher import (
    AEGIS_128L,
    CHACHA20_POLY1305,
    WIREGUARD_FRAMES,
    FrameCipher,
)
from tunnel.noise.handshake import PUNCHTUN, FrameKeys, Initiator, consume_initiation
from tunnel.noise.keypair import Keypair
from tunnel.noise.keys import PresharedKey
from tunnel.noise.tai64n import TIMESTAMP_LENGTH
from tunnel.wire import natpmp, pcp
from tunnel.wire.armour import armour, remove_armour
from tunnel.wire.backup import parse_backup, parse_sealed_backup
from tunnel.wire.candidate import pack_candidates, parse_announcement, parse_candidates
from tunnel.wire.certificate import parse_certificate
from tunnel.wire.check import (
    PREDICTION,
    CallMe,
    Confirm,
    Ping,
    Pong,
    Prediction,
    parse_check,
)
from tunnel.wire.endpoint import Endpoint, pack_endpoint, unpack_endpoint
from tunnel.wire.feeler import Feeler, parse_hairpin
from tunnel.wire.fragment import Fragment, parse_fragment
from tunnel.wire.handshake import (
    OFFER_AEGIS,
    Initiation,
    Response,
    parse_cookie_reply,
    parse_initiation,
    parse_response,
)
from tunnel.wire.http import parse_request, parse_status, take_head
from tunnel.wire.icmp import answer_too_big
from tunnel.wire.invitation import (
    JOIN_PREFIX,
    JoinString,
    WebSocketUrl,
    decode_base64,
    encode_base64,
    parse_admission,
    parse_join_answer,
    parse_join_request,
    parse_join_string,
    parse_server_url,
    parse_wish,
)
from tunnel.wire.packet import parse_ip_header
from tunnel.wire.relay import pack_relay, parse_relay
from tunnel.wire.rendezvous import MAX_SEALED, parse_from_node, parse_from_server
from tunnel.wire.revocation import RevocationDigest, RevocationList, parse_revocation
from tunnel.wire.rotation import RotationRequest, RotationStatus, parse_rotation_request
from tunnel.wire.segment import cut_superpacket, transport_of
from tunnel.wire.stream import StreamParser, pack_stream
from tunnel.wire.stun import is_stun, parse_binding_request
from tunnel.wire.train import TRAIN_OVERHEAD, packet_of, parse_train, split_bundle
from tunnel.wire.transport import pack_header, parse_header, parse_place
from tunnel.wire.virtio import VIRTIO_LENGTH

Target = Callable[[bytes], None]

NETWORK = Network()
SIGNED = [NETWORK.certificate.pack(), NETWORK.certify(key(2), "pi", 2).pack()]
RECEIVERS = [Receiver(cipher) for cipher in CIPHERS_WITH_KEYS]
STRANGERS = [Receiver(replace(cipher, first=0)) for cipher in CIPHERS_WITH_KEYS]
"""With keys under which nothing is sealed."""
STRANGER = Endpoint("192.0.2.66", 666)
WEBSOCKET_REQUEST = (
    b"GET /punchtun HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
JOIN = JoinString(bytes(32), bytes(16), URL).text
PAGE_CREDENTIALS = b"Authorization: Bearer AAAAAAAAAAAAAAAAAAAAAA\r\n"
WEBSOCKET_ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
    b"Sec-WebSocket-Accept: "
)
SIGNED_REVOCATIONS = [
    sign_revocation(key(number).public_key, 5.0, NETWORK.signing_key).pack() for number in (2, 3)
]


def _message(parse: Callable[[bytes], Any], data: bytes) -> Any:
    """The message, which after packing means the same; None for what is Malformed."""
    try:
        message = parse(data)
    except Malformed:
        return None
    assert parse(message.pack()) == message
    return message


def fuzz_handshake(data: bytes) -> None:
    """Any bytes are at most one handshake message, which packs to the same bytes again."""
    found = [
        message
        for parse in (parse_initiation, parse_response, parse_cookie_reply)
        if (message := _message(parse, data)) is not None
    ]
    assert len(found) <= 1
    for message in found:
        assert message.pack() == data


def fuzz_check(data: bytes) -> None:
    """Any payload is a check or Malformed."""
    _message(parse_check, data)


def fuzz_hairpin(data: bytes) -> None:
    """Any datagram is a token sent to ourselves, in one form, or Malformed."""
    message = _message(parse_hairpin, data)
    assert message is None or message.pack() == data


def fuzz_stream(data: bytes) -> None:
    """Any bytes, cut anywhere, are the same datagrams, or end the stream."""
    found = []
    for step in (1, 7, max(1, len(data))):
        parser, datagrams = StreamParser(), []
        try:
            for start in range(0, len(data), step):
                datagrams += parser.feed(data[start : start + step])
        except Malformed:
            assert b"\0\0" in data
            continue
        found.append(datagrams)
        assert data.startswith(b"".join(map(pack_stream, datagrams)))
    assert all(datagrams == found[0] for datagrams in found)


def fuzz_http(data: bytes) -> None:
    """Any bytes are a bounded head, a head to come, or Malformed."""
    for parse in (parse_request, parse_status):
        try:
            head = take_head(data)
            if head is not None:
                assert data.startswith(head)
                parse(head)
        except Malformed:
            continue


def fuzz_web(data: bytes) -> None:
    """Any bytes to the web server of metrics and page: nothing yet, or one answer; the status only
    for who has the token or is on this machine and says so."""
    told = b'{"told": true}'
    for credentials in (b"", PAGE_CREDENTIALS):
        for is_local in (False, True):
            page = Page(lambda: {"told": True}, bytes(16))
            visit = OneRequest(page.answer, is_local=is_local)
            request = data.replace(b"\r\n", b"\r\n" + credentials, 1)
            assert visit.receive(request) == []
            answer = visit.take_output()
            assert bool(answer) == visit.is_finished
            assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
            assert b" 500 " not in answer[:20]
            if answer.endswith(told):
                assert credentials or is_local or b"A" * 22 in data


def fuzz_names(data: bytes) -> None:
    """Any text gives names of ours only, at addresses of other machines, in the words in which it
    was written."""
    names, refused = parse_names(data)
    lines = format_names(names).splitlines()
    assert {*lines} <= {*data.split(b"\n")}
    assert len(lines) + refused <= data.count(b"\n") + 1
    for address in [each for named in names.values() for each in named]:
        assert not address.is_loopback
        assert not address.is_unspecified


def fuzz_websocket_server(data: bytes) -> None:
    """Any bytes to the server's WebSocket: datagrams, or an answer, or Malformed; never both a
    refusal and datagrams."""
    for prefix in (b"", WEBSOCKET_REQUEST):
        protocol = WebSocketServer()
        try:
            datagrams = protocol.receive(prefix + data)
        except Malformed:
            continue
        assert protocol.is_ready or not datagrams
        protocol.take_output()


def fuzz_websocket_client(data: bytes) -> None:
    """Any bytes to a node's WebSocket, whoever answers, and after a proper answer: datagrams, or
    Malformed."""
    for is_answered in (False, True):
        client = WebSocketClient(WebSocketUrl(False, "a.example", 80, "/punchtun"))
        key = client.take_output().partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r")[0]
        digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        if is_answered:
            assert client.receive(WEBSOCKET_ANSWER + base64.b64encode(digest) + b"\r\n\r\n") == []
            assert client.is_ready
        try:
            datagrams = client.receive(data)
        except Malformed:
            continue
        assert client.is_ready or not datagrams
        client.take_output()


def fuzz_fragments(data: bytes) -> None:
    """Any payloads, one after the other, are fragments or Malformed. What they make is bounded."""
    reassembler = Reassembler()
    for number, start in enumerate(range(0, len(data), 12)):
        try:
            fragment = parse_fragment(data[start : start + 12])
            assert fragment.pack() == data[start : start + 2] + bytes(2) + data[start + 4 :][:8]
            packet = reassembler.add(fragment, number / 10)
        except Malformed:
            continue
        assert packet is None or len(packet) <= len(data)


def fuzz_too_big(data: bytes) -> None:
    """Any packet is malformed, or answered with a shorter one to its sender, or not at all."""
    try:
        header = parse_ip_header(data)
    except Malformed:
        return
    answer = answer_too_big(data, 100)
    if answer is not None:
        assert len(answer) <= len(data) + 48
        assert parse_ip_header(answer).destination == header.source


def fuzz_from_node(data: bytes) -> None:
    """Any payload is a node's message or Malformed, and nothing sealed in it is too long."""
    message = _message(parse_from_node, data)
    assert all(len(field) <= MAX_SEALED for field in message or () if isinstance(field, bytes))


def fuzz_from_server(data: bytes) -> None:
    """Any payload is a server's message or Malformed, and nothing sealed in it is too long."""
    message = _message(parse_from_server, data)
    assert all(len(field) <= MAX_SEALED for field in message or () if isinstance(field, bytes))


def fuzz_announcement(data: bytes) -> None:
    """Any bytes are an announcement or Malformed; no candidate in it has port 0."""
    message = _message(parse_announcement, data)
    assert message is None or all(c.endpoint.port for c in message.candidates)


def fuzz_candidates(data: bytes) -> None:
    """Any bytes are candidates or Malformed; of them only public ones are admitted to a machine
    without interfaces."""
    try:
        candidates = parse_candidates(data)
    except Malformed:
        return
    assert parse_candidates(pack_candidates(candidates)) == candidates
    for candidate in admit_candidates(candidates, (), ()):
        address = ipaddress.ip_address(candidate.endpoint.host)
        assert not address.is_loopback
        assert not address.is_multicast
        assert not address.is_link_local
        assert not address.is_unspecified


def fuzz_certificate(data: bytes) -> None:
    """Any bytes are a certificate or Malformed; a certificate has one form, and the network takes
    none that it did not sign."""
    certificate = _message(parse_certificate, data)
    assert certificate is None or certificate.pack() == data
    try:
        NETWORK.identity.verify(data, 0.0)
    except (Malformed, AuthenticationFailed):
        return
    assert data in SIGNED


def fuzz_revocation(data: bytes) -> None:
    """Any bytes are a revocation or Malformed; it has one form, and none is kept that the network
    did not sign."""
    revocation = _message(parse_revocation, data)
    if revocation is None:
        return
    assert revocation.pack() == data
    revocations = Revocations(NETWORK.identity.key)
    try:
        revocations.add(revocation)
    except AuthenticationFailed:
        assert len(revocations) == 0
        return
    assert data in SIGNED_REVOCATIONS


def fuzz_expulsion(data: bytes) -> None:
    """Whatever peers say of revocations, and when: what is kept is signed by the network, what is
    said is bounded, and a member that is revoked is no peer. `data`: who, what and how long after
    the last, and a payload or the number of a true revocation, again and again."""
    talker = Talker().greet_all()
    for at in range(0, len(data), 152):
        how, which, payload = data[at], data[at + 1 : at + 2], data[at + 2 : at + 152]
        talker.run(how >> 4)
        peers = list(talker.peers)
        if not peers:
            break
        peer = peers[how % len(peers)]
        try:
            check = parse_check(payload)
            if how & 8 and which:
                check = RevocationList((EVERYBODY[which[0] % 255],))
            if isinstance(check, RevocationDigest):
                talker.expulsion.receive_digest(check, peer, talker.now)
            elif isinstance(check, RevocationList):
                talker.expulsion.receive_list(check, peer, talker.now)
        except (Malformed, AuthenticationFailed):
            continue
        if talker.expulsion.is_expelled:
            talker.run(10)
            assert list(talker.peers) == []
            assert talker.has_left
            return
    assert set(talker.revocations) <= set(EVERYBODY)
    assert not any(peer.key.data in talker.revocations for peer in talker.peers)


def fuzz_rotation(data: bytes) -> None:
    """Whatever members ask of an inviter: each key has one successor, nobody gets a key that is
    known, and what is certified is what the member had. `data`: who asks, for which key, whether it
    has the proof, and a payload, again and again."""
    ledger = NETWORK.ledger()
    ledger.learn([NETWORK.certify(key(number), f"n{number}", number) for number in (2, 3, 4)])
    had = {c.key: (c.name, c.addresses, c.issued) for c in ledger.issued}
    known = set(had)
    for at in range(0, len(data), 72):
        how, payload = data[at], data[at + 4 : at + 72]
        old = key(2 + how % 5).public_key.data
        try:
            request = parse_rotation_request(payload)
            if how & 0x40:
                new = key(1 + data[at + 1] % 40)
                proof = join_key(b"key rotation", new, NETWORK.founder.public_key, old)
                request = RotationRequest(new.public_key.data, proof)
            answer, has_changed = ledger.rotate(old, request, WALL)
        except (Malformed, AuthenticationFailed):
            continue
        if answer.status is RotationStatus.GRANTED:
            certificate = NETWORK.identity.verify(answer.certificate, WALL)
            assert has_changed == (certificate.key not in known)
            assert ledger.successors[old] == certificate.key == request.key
            known.add(certificate.key)
            what = (certificate.name, certificate.addresses, certificate.issued)
            assert had.setdefault(certificate.key, what) == what == had[old]
    assert len(set(ledger.successors.values())) == len(ledger.successors)


def fuzz_endpoint(data: bytes) -> None:
    """18 bytes are one endpoint, in one form; any other number is Malformed."""
    try:
        endpoint = unpack_endpoint(data)
    except Malformed:
        assert len(data) != 18
        return
    assert pack_endpoint(endpoint) == data


def fuzz_transport(data: bytes) -> None:
    """Any datagram is a frame's header and something sealed, or Malformed."""
    try:
        receiver, counter = parse_header(data)
    except Malformed:
        return
    assert data.startswith(pack_header(receiver, counter, parse_place(data)))


def fuzz_frame(data: bytes) -> None:
    """No datagram for us opens, whatever the cipher, but those that were sealed, byte for byte."""
    try:
        receiver, counter = parse_header(data)
    except Malformed:
        return
    if receiver != 1:  # Nobody's: not even tried. WireGuard's tag does not cover it.
        return
    for cipher in CIPHERS:
        keypair = _keypair(cipher)
        try:
            keypair.open(counter, data)
        except AuthenticationFailed:
            continue
        assert data in FRAMES


def fuzz_agreement(data: bytes) -> None:
    """Whatever is done to an initiation or a response: it is refused, or both ends have the same
    cipher and keys exactly if offer and choice are what was sent."""
    ours, sent = _initiate()
    seen = _message(parse_initiation, data) or sent
    try:
        response, theirs = _respond(seen)
        answer = _message(parse_response, data) or response
        keys = ours.consume_response(answer)
    except AuthenticationFailed:
        return
    is_unchanged = (seen.offer, answer.choice) == (sent.offer, response.choice)
    assert (keys == (theirs.cipher, theirs.receiving, theirs.sending)) is is_unchanged


def _initiate() -> tuple[Initiator, Initiation]:
    initiator = Initiator(PUNCHTUN, key(1), key(2).public_key, PRESHARED, OFFER_AEGIS)
    return initiator, initiator.create_initiation(
        sender=1, ephemeral=key(3), timestamp=bytes(TIMESTAMP_LENGTH)
    )


def _respond(initiation: Initiation) -> tuple[Response, FrameKeys]:
    return consume_initiation(PUNCHTUN, key(2), initiation).create_response(
        sender=2, ephemeral=key(4), preshared=PRESHARED, offer=OFFER_AEGIS
    )


def _keypair(cipher: FrameCipher) -> Keypair:
    """Opens what it has sealed."""
    return Keypair(
        cipher=cipher,
        sending_key=bytes(cipher.key_length),
        receiving_key=bytes(cipher.key_length),
        local_index=1,
        remote_index=1,
        created_at=0.0,
        is_initiator=True,
    )


PRESHARED = PresharedKey(bytes(32))
CIPHERS = (AEGIS_128L, CHACHA20_POLY1305, WIREGUARD_FRAMES)
FRAMES = [
    frame
    for cipher in CIPHERS
    for keypair in [_keypair(cipher)]
    for frame in (keypair.seal(b""), keypair.seal(ipv4(b"x" * 8)))
]


def fuzz_relay(data: bytes) -> None:
    """Any datagram is a relay envelope around something, or Malformed."""
    try:
        channel, inner = parse_relay(data)
    except Malformed:
        return
    assert inner
    assert pack_relay(channel, inner) == data


def fuzz_train(data: bytes) -> None:
    """Any payload, at any place, stands for one packet as long as its headers say, or is Malformed.
    `data`: the place and the payload."""
    place, payload = (data[0], data[1:]) if data else (0, b"")
    try:
        last, size, headers = parse_train(payload)
        assert 0 < len(payload) - TRAIN_OVERHEAD - len(headers) <= size
        packet = packet_of(payload, place)
    except Malformed:
        return
    assert place <= last
    assert len(packet) == len(payload) - TRAIN_OVERHEAD
    _check_packet(packet)


def fuzz_bundle(data: bytes) -> None:
    """Any payload is packets, with nothing between them, and padding, or Malformed."""
    try:
        packets = split_bundle(data)
    except Malformed:
        return
    length = sum(map(len, packets))
    assert length == len(data) or data[length] == 0
    for packet in packets:
        assert parse_ip_header(packet).length == len(packet)


def fuzz_superpacket(data: bytes) -> None:
    """Any packet of the TUN interface, and any header before it: packets that hold its payload, or
    Malformed."""
    header, packet = data[:VIRTIO_LENGTH].ljust(VIRTIO_LENGTH, b"\0"), data[VIRTIO_LENGTH:]
    try:
        packets = cut_superpacket(header, packet)
    except Malformed:
        return
    if len(packets) == 1:
        assert len(packets[0]) == len(packet)
        return
    payload = b""
    for cut in packets:
        _check_packet(cut)
        payload += cut[transport_of(cut)[2] :]
    assert packet.endswith(payload)


def _check_packet(packet: bytes) -> None:
    """TCP or UDP, and as long as it says."""
    assert parse_ip_header(packet).length == len(packet)
    _, start, end = transport_of(packet)
    assert 20 <= start < end <= len(packet)


def fuzz_opener(data: bytes) -> None:
    """Any payloads, sealed by a member as the frames of a train, or as single ones: they are opened
    to whole packets or refused, and C writes to no other place. `data`: the cipher and the kind,
    the first place, the payloads' size, and the payloads."""
    if len(data) < 4:
        return
    receiver, place, size = RECEIVERS[data[0] % 2], data[1], max(1, data[2] << 8 | data[3])
    payloads = [data[at : at + size] for at in range(4, len(data), size)][: 256 - place]
    frames = [
        receiver.cipher.seal(0 if data[0] & 2 else number, number, payload)
        for number, payload in enumerate(payloads, place)
    ]
    for arrival in arrive(frames, gap=data[0] >> 4):
        for opened in receiver.receive(arrival):
            assert opened.length >= 0 or opened.run.is_train
            check_opened(opened)


def fuzz_area(data: bytes) -> None:
    """Any datagrams of a stranger, however they lie: nothing opens. `data`: the cipher, where they
    lie, their size, and they."""
    if len(data) < 5:
        return
    receiver, offset, size = STRANGERS[data[0] % 2], data[1], max(1, data[2] << 8 | data[3])
    datagrams = [data[at : at + size] for at in range(4, len(data), size)]
    arrival = Arrival(datagrams, offset, size + (data[0] >> 4))
    assert all(opened.length == -1 for opened in receiver.receive(arrival))


def fuzz_stun(data: bytes) -> None:
    """Any datagram is a Binding request or Malformed; a request looks like STUN."""
    try:
        transaction = parse_binding_request(data)
    except Malformed:
        return
    assert is_stun(data)
    assert data[8:20] == transaction


def fuzz_ip(data: bytes) -> None:
    """Any packet has a header with addresses and a length within it, or is Malformed."""
    try:
        header = parse_ip_header(data)
    except Malformed:
        return
    assert len(header.source) == len(header.destination) == (4 if data[0] >> 4 == 4 else 16)
    assert 20 <= header.length <= len(data)


def fuzz_join_messages(data: bytes) -> None:
    """Any bytes are a join request, answer, admission or wish, or Malformed."""
    for parse in (parse_join_request, parse_join_answer, parse_admission):
        message = _message(parse, data)
        assert message is None or message.pack() == data
    with suppress(Malformed):
        assert parse_wish(data).encode() == data


def fuzz_server_url(data: bytes) -> None:
    """Any text is a server URL, whose text is that URL again, or Malformed."""
    try:
        url = parse_server_url(data.decode("utf-8", "replace"))
    except Malformed:
        return
    assert parse_server_url(url.text) == url
    assert url.text[len(url.location) :] not in repr(url)


def fuzz_join_string(data: bytes) -> None:
    """Any text is a join string or Malformed, also with a right check behind it."""
    for text in (data.decode("utf-8", "replace"), JOIN_PREFIX + encode_base64(data)):
        try:
            join = parse_join_string(text)
        except Malformed:
            continue
        assert parse_join_string(join.text) == join


def fuzz_backup(data: bytes) -> None:
    """Any bytes are a sealed backup or the content of one, in one form, or Malformed."""
    for parse in (parse_sealed_backup, parse_backup):
        message = _message(parse, data)
        assert message is None or message.pack() == data


def fuzz_armour(data: bytes) -> None:
    """Any text is armour of some bytes or Malformed; any bytes come back out of their armour."""
    try:
        inside = remove_armour(data.decode("utf-8", "replace"))
        assert remove_armour(armour(inside, "of it")) == inside
    except Malformed:
        pass
    assert remove_armour(armour(data, "of it")) == data


def fuzz_base64(data: bytes) -> None:
    """A text is base64url of at most one string of bytes."""
    text = data.decode("latin-1")
    try:
        decoded = decode_base64(text)
    except Malformed:
        return
    assert encode_base64(decoded) == text


def fuzz_traversal(data: bytes) -> None:
    """Any authentic checks, from anywhere, at any time: no exception, bounded paths, and a best
    path is one that was proven."""
    traversal = Traversal(seeded(1))
    now = 1000.0
    traversal.set_relay(True, now)
    traversal.set_candidates(CANDIDATES)
    sources = [RELAYED, STRANGER, *(candidate.endpoint for candidate in CANDIDATES)]
    sent: list[bytes] = []
    for at in range(0, len(data) - 1, 2):
        what, which = data[at], data[at + 1]
        source = sources[what % 4]
        now += (what >> 4) / 10
        traversal.note_received(source, now, 50)
        payload = sent[which % len(sent)] if sent else b""
        check = parse_check(payload) if payload else Ping(which)
        if isinstance(check, Ping) and which % 3:
            traversal.receive_pong(Pong(check.transaction, 1, STRANGER), source, now)
        elif isinstance(check, Ping):
            traversal.receive_ping(check, source, now)
        elif isinstance(check, Pong):
            traversal.receive_confirm(Confirm(check.reply), source, now)
        elif isinstance(check, CallMe):
            traversal.receive_call(check, now)
        timer = traversal.get_timer()
        if timer is not None and timer <= now:
            traversal.handle_timer(now)
        sent += [check.payload for check in traversal.take_checks() if check.payload is not None]
        assert traversal.best is None or traversal.best.proven_at is not None
        assert len(traversal.paths()) <= 64


def fuzz_nat_pmp(data: bytes) -> None:
    """Any datagram is a router's answer or Malformed, and none is both NAT-PMP and PCP."""
    if _message(natpmp.parse_response, data) is not None:
        assert _message(pcp.parse_response, data) is None


def fuzz_pcp(data: bytes) -> None:
    """Any datagram is a router's answer or Malformed; what is in it fits its fields."""
    message = _message(pcp.parse_response, data)
    if isinstance(message, pcp.MapResponse):
        assert len(message.nonce) == pcp.NONCE_LENGTH
        ipaddress.ip_address(message.external.host)


def fuzz_port_mapper(data: bytes) -> None:
    """Any datagrams of the router, and any results, at any time: no exception, few datagrams, and
    what is announced is public."""
    mapping = Mapping(Gateway(speaks={"upnp"})).start()
    pieces = [data[start : start + 60] for start in range(0, len(data), 60)]
    for number, piece in enumerate(pieces):
        mapping.run(piece[0] / 16)
        if piece[0] % 4 == 3:
            host = piece[1:].decode("latin-1")
            mapping.mapper.receive_result(
                UpnpResult(number, host, "x" * (piece[0] % 8)), mapping.now
            )
        else:
            # The nonce and the port are those of the request, or nothing would get far.
            asked = mapping.gateway.heard[-1] if mapping.gateway.heard else b""
            mapping.hear(piece[:24] + asked[24:42] + piece[42:] if piece[0] == 2 else piece)
        external = mapping.mapper.external
        assert external is None or is_public(ipaddress.ip_address(external.host))
    assert mapping.sent <= 20 + 12 * len(pieces)


def fuzz_port_guessing(data: bytes) -> None:
    """Any predictions of a peer, in any state: no exception, nothing goes to an address that is not
    the peer's, sockets and datagrams stay bounded, and all come to their end. `data`: a byte that
    says how, and a prediction, again and again."""
    pair = Pair(("exact", "64", "512", "sequential")[len(data) % 4], "exact")
    a, b = pair.ends
    pair.get_stuck(a)
    for start in range(0, len(data), 33):
        how, payload = data[start], data[start + 1 : start + 33]
        pair.run((how >> 4) / 10)
        try:
            prediction = parse_check(payload)
        except Malformed:
            continue
        if not isinstance(prediction, Prediction):
            continue
        b.is_credible = how % 8 != 7
        if how % 2 and a.sent:
            prediction = prediction._replace(attempt=a.sent[-1][1].attempt)
        if b.is_credible:
            prediction = prediction._replace(first=prediction.first._replace(host=b.host))
        pair.hear(a, prediction)
    pair.rest()
    assert all(check.endpoint.host == b.host for _, check in a.struck)
    assert (a.state, a.guessing.sockets.free) == (GuessState.IDLE, MAX_FRESH)
    entries = {(check.local, check.endpoint) for _, check in a.struck}
    assert len(entries) <= 480 * (2 + len(data) // 33)


def fuzz_node(data: bytes) -> None:
    """A datagram of a stranger: the node counts a reason and answers nothing."""
    node = _ALONE.node
    before = sum(node.drops.values())
    assert node.receive_datagrams([data], STRANGER, _ALONE.clock.now) == []
    assert node.datagrams_to_send(_ALONE.clock.now) == []
    assert sum(node.drops.values()) == before + 1


def fuzz_server(data: bytes) -> None:
    """A datagram of a stranger: the server answers STUN, and anything else with nothing."""
    before = sum(_SERVER.drops.values())
    assert _SERVER.receive_datagrams([data], STRANGER, 1000.0) == []
    answers = _SERVER.datagrams_to_send(1000.0)
    if is_stun(data) and answers:
        assert [len(answer.data) for answer in answers] == [32]
    else:
        assert answers == []
        assert sum(_SERVER.drops.values()) == before + 1


def fuzz_stranger_by_stream(data: bytes) -> None:
    """A datagram of a stranger by a stream: never an answer, and always a reason."""
    _SERVER.stream_opened(FIRST_STREAM, STRANGER, 1000.0)
    before = sum(_SERVER.drops.values())
    assert _SERVER.receive_datagrams([data], STRANGER, 1000.0, FIRST_STREAM) == []
    assert _SERVER.datagrams_to_send(1000.0) == []
    assert sum(_SERVER.drops.values()) == before + 1
    _SERVER.stream_closed(FIRST_STREAM, "gone", 1000.0)


def fuzz_server_says(data: bytes) -> None:
    """Any payload sealed by the server: the node goes on. `data` is the payload."""
    _ALONE.say(data)
    _ALONE.sent.clear()
    while _ALONE.node.next_event() is not None:
        pass


_ALONE = Alone().start()
_ALONE.sent.clear()
_SERVER = make_server(Clock())

TARGETS: dict[str, Target] = {
    name.removeprefix("fuzz_"): target
    for name, target in list(globals().items())
    if name.startswith("fuzz_")
}


def _of(*parsers: Callable[[bytes], Any]) -> list[bytes]:
    kinds: list[Kind] = [kind for kind in KINDS if kind.parse in parsers]
    return [kind.packed for kind in kinds]


def corpus(name: str) -> list[bytes]:
    """Inputs for a target, to be mutated: valid ones, and what coverage has found."""
    return [*_valid(name), *read_stored(name)]


def _valid(name: str) -> list[bytes]:
    handshakes = _of(parse_initiation, parse_response, parse_cookie_reply)
    datagrams = [
        *handshakes,
        pack_header(1, 2) + bytes(16),
        pack_header(1, 2, 3) + bytes(36),
        pack_relay(7, bytes(16)),
        *_of(parse_hairpin),
        Feeler().pack(),
        stun_request(),
        REQUEST,
    ]
    predictions = [packed for packed in _of(parse_check) if packed[0] == PREDICTION]
    ask = predictions[0][:1] + b"\x01\x01" + predictions[0][3:]
    special: dict[str, list[bytes]] = {
        "handshake": handshakes,
        "frame": FRAMES,
        "agreement": [_initiate()[1].pack(), _respond(_initiate()[1])[0].pack()],
        "check": _of(parse_check),
        "hairpin": _of(parse_hairpin),
        "fragments": [b"".join(Fragment(1, n, n == 3, b"part").pack() for n in range(4))],
        "train": [
            bytes([place]) + payload
            for superpacket in SUPERPACKETS
            for place, payload in enumerate(superpacket.frames)
        ],
        "bundle": [
            *[superpacket.left for superpacket in SUPERPACKETS],
            SUPERPACKETS[0].left + ipv4(b"x" * 9) + SUPERPACKETS[-1].left + ipv6(b"x" * 9),
        ],
        "opener": [
            bytes([way, place]) + len(s.frames[0]).to_bytes(2, "big") + b"".join(s.frames[place:])
            for s in SUPERPACKETS
            for way, place in ((0, 0), (1, 0), (0x40, 1))
        ]
        + [
            bytes([way, 0]) + len(bundle).to_bytes(2, "big") + bundle * 3
            for bundle in (SUPERPACKETS[0].left + ipv4(b"x" * 9), SUPERPACKETS[1].left)
            for way in (2, 3)
        ],
        "area": [
            bytes([way, 3, 0, len(frame)]) + b"".join([*frames, frame])
            for way, cipher in enumerate(CIPHERS_WITH_KEYS)
            for frames in [[cipher.seal(n, 5 + n, b"segment", 9) for n in range(5)]]
            for frame in frames[:1]
        ],
        "superpacket": [superpacket.virtio + superpacket.packet for superpacket in SUPERPACKETS],
        "stream": [pack_stream(b"abc") + pack_stream(bytes(300)), pack_stream(b"a") * 9],
        "http": [WEBSOCKET_REQUEST, b"HTTP/1.1 200 OK\r\nVia: 1.1 proxy\r\n\r\n"],
        "web": [
            b"GET /status.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
            b"HEAD / HTTP/1.1\r\nHost: [::1]:80\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
        ],
        "names": [b"10.81.7.2 pi.punchtun\nfd00::1 attic.punchtun\n", b"127.0.0.1 pi.punchtun"],
        "websocket_server": [
            WEBSOCKET_REQUEST,
            b"GET / HTTP/1.1\r\n\r\n",
            bytes.fromhex("8283000000006162638900"),
            bytes.fromhex("02810000000061808100000000628880000000008a8000000000"),
        ],
        "websocket_client": [
            WEBSOCKET_ANSWER + b"AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
            bytes.fromhex("8203000000820161888203e8"),
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\na",
        ],
        "too_big": [ipv4(bytes(200)), ipv6(bytes(1300))],
        "from_node": _of(parse_from_node),
        "from_server": _of(parse_from_server),
        "server_says": _of(parse_from_server),
        "announcement": _of(parse_announcement),
        "candidates": [pack_candidates(CANDIDATES)],
        "certificate": SIGNED,
        "revocation": SIGNED_REVOCATIONS,
        "expulsion": [
            b"".join(
                bytes([how, which])
                + RevocationDigest(bytes(128), wants_answer=True).pack().ljust(150, b"-")
                for how, which in steps
            )
            for steps in (
                [(0x10, 0), (0x01, 0), (0x18, 77), (0x42, 0)],
                [(0x08, n) for n in range(3, 60)],
                [(0x09, 9), (0x08, 0), (0x00, 0)],
            )
        ],
        "rotation": [
            b"".join(
                bytes([how, new, 0, 0]) + RotationRequest(bytes(32), bytes(32)).pack()
                for how, new in steps
            )
            for steps in (
                [(0x41, 9), (0x41, 9), (0x41, 10), (0x05, 0)],
                [(0x40 + n % 8, n) for n in range(40)],
            )
        ],
        "endpoint": [pack_endpoint(SERVER), pack_endpoint(Endpoint("2001:db8::1", 7))],
        "ip": [ipv4(b"x" * 8), ipv6(b"x" * 8)],
        "join_messages": [
            *_of(parse_join_request, parse_join_answer, parse_admission),
            b"pi-2",
        ],
        "server_url": [URL.text.encode(), b"punchtun://[2001:db8::1]:7/" + b"A" * 64],
        "join_string": [JOIN.encode(), decode_base64(JOIN.removeprefix(JOIN_PREFIX))],
        "backup": _of(parse_sealed_backup, parse_backup),
        "armour": [armour(bytes(range(n)), "of a").encode() for n in (0, 1, 36, 100)],
        "base64": [encode_base64(bytes(range(n))).encode() for n in (0, 1, 2, 3, 48)],
        "nat_pmp": _of(natpmp.parse_response),
        "pcp": _of(pcp.parse_response),
        "port_mapper": [b"".join(_of(pcp.parse_response)), b"".join(_of(natpmp.parse_response))],
        "port_guessing": [
            bytes([0x01]) + predictions[0] + bytes([0x60]) + ask + bytes([0x11]) + predictions[-1],
            bytes([0x07]) + ask + bytes([0x41]) + ask,
        ],
        "traversal": [bytes(range(0, 200, 3)), bytes(64)],
    }
    return special.get(name, datagrams)
