"""What the vectors of the document must be, by the code: from a vector's values its results."""

from __future__ import annotations

from collections.abc import Callable

from tunnel.core.membership import (
    choose_ipv4_network,
    derive_ula,
    first_address,
    invitation_id,
    join_key,
)
from tunnel.core.server_session import server_construction, server_preshared_key
from tunnel.noise.cookie import CookieChecker, CookieGenerator
from tunnel.noise.frame_cipher import AEGIS_128L, CHACHA20_POLY1305, derive_frame_key
from tunnel.noise.handshake import (
    PUNCHTUN,
    PUNCHTUN_SERVER,
    Construction,
    FrameKeys,
    HandshakeState,
    Initiator,
    consume_initiation,
)
from tunnel.noise.keypair import Keypair
from tunnel.noise.keys import PresharedKey, PrivateKey, PublicKey, SigningKey
from tunnel.noise.passphrase import seal_with_passphrase
from tunnel.noise.primitives import blake2s, kdf, mac
from tunnel.noise.sealing import derive_key, seal_blob
from tunnel.noise.tai64n import timestamp
from tunnel.wire.armour import armour
from tunnel.wire.certificate import SIGNED_PREFIX
from tunnel.wire.checksum import sum_words
from tunnel.wire.endpoint import Endpoint, pack_endpoint, unpack_endpoint
from tunnel.wire.handshake import parse_response
from tunnel.wire.invitation import (
    JoinString,
    ServerUrl,
    parse_join_string,
    parse_server_url,
)
from tunnel.wire.segment import cut_superpacket, describe_run, transport_of

Values = dict[str, bytes]


def primitives(v: Values) -> Values:
    first, second, third = kdf(3, v["chaining key"], v["input"])
    return {
        "hash": blake2s(v["input"]),
        "mac": mac(v["mac key"], v["input"]),
        "kdf 1": first,
        "kdf 2": second,
        "kdf 3": third,
        "derived": derive_key(b"example", b"\1\2", b"\3"),
        "blob": seal_blob(v["blob key"], v["input"], v["nonce"], b"associated"),
    }


def keys(v: Values) -> Values:
    secret, token = v["network secret"], v["access token"]
    network = SigningKey(v["signing key"]).verify_key
    node = PrivateKey(v["node private key"]).public_key
    prefix = choose_ipv4_network(network, lambda _: False).network_address.packed
    return {
        "network key": network.data,
        "node key": node.data,
        "preshared, node and server": derive_key(b"server access", token),
        "label of mac1 to and from the server": derive_key(b"server mac1", token)[:8],
        "preshared, node and node": derive_key(b"session", secret),
        "network tag": derive_key(b"network tag", secret)[:16],
        "announcement key": derive_key(b"announcement", secret),
        "network id": derive_key(b"network id", network.data)[:6],
        "first address": first_address(node.data).to_bytes(4, "little"),
        "ipv6 address": derive_ula(network, node).ip.packed,
        "ipv4 prefix, attempt 0": prefix,
    }


def frames(v: Values) -> Values:
    header, key, payload = v["header"], v["noise key"], v["payload"]
    aegis, chacha = (derive_frame_key(c, 1, key) for c in (AEGIS_128L, CHACHA20_POLY1305))
    short, long = bytes(range(16)), bytes(range(32))
    return {
        "frame key, offer 1, choice 1": aegis,
        "frame key, offer 1, choice 0": chacha,
        "aegis key": short,
        "aegis frame": header + AEGIS_128L.seal(short, header, payload),
        "chacha key": long,
        "chacha frame": header + CHACHA20_POLY1305.seal(long, header, payload),
    }


def _shake_hands(
    v: Values, construction: Construction, preshared: PresharedKey, offer: int
) -> tuple[Values, FrameKeys]:
    one, other = PrivateKey(v["initiator private key"]), PrivateKey(v["responder private key"])
    index, answering = (
        int.from_bytes(v[f"{name} index"], "little") for name in ("initiator", "responder")
    )
    initiator = Initiator(construction, one, other.public_key, preshared, offer)
    initiation = initiator.create_initiation(
        sender=index,
        ephemeral=PrivateKey(v["initiator ephemeral private key"]),
        timestamp=v["timestamp"],
    )
    stamped = CookieGenerator(construction, other.public_key).stamp(initiation.pack(), 0.0)
    response, _ = consume_initiation(construction, other, initiation).create_response(
        sender=answering,
        ephemeral=PrivateKey(v["responder ephemeral private key"]),
        preshared=preshared,
        offer=offer,
    )
    answer = CookieGenerator(construction, one.public_key).stamp(response.pack(), 0.0)
    results = {
        "initiator key": one.public_key.data,
        "responder key": other.public_key.data,
        "mac1 key of the initiation": blake2s(construction.mac1_label + other.public_key.data),
        "initiation": stamped,
        "response": answer,
    }
    state = HandshakeState(
        prologue=construction.identifier, static=one, remote_static=other.public_key
    )
    state.write_message_1(PrivateKey(v["initiator ephemeral private key"]), v["timestamp"])
    results["h after the initiation"] = state.handshake_hash
    state.read_message_2(response.ephemeral + response.empty, preshared)
    results["h after the response"] = state.handshake_hash
    to_responder, to_initiator = state.split()
    results["transport key to the responder"] = to_responder
    results["transport key to the initiator"] = to_initiator
    agreed = initiator.consume_response(parse_response(answer))
    results["frame key to the responder"] = agreed.sending
    results["frame key to the initiator"] = agreed.receiving
    return results, agreed


def _keypair(agreed: FrameKeys, remote: bytes, *, is_initiator: bool) -> Keypair:
    return Keypair(
        cipher=agreed.cipher,
        sending_key=agreed.sending if is_initiator else agreed.receiving,
        receiving_key=agreed.receiving if is_initiator else agreed.sending,
        local_index=0,
        remote_index=int.from_bytes(remote, "little"),
        created_at=0.0,
        is_initiator=is_initiator,
    )


def handshake(v: Values) -> Values:
    results, agreed = _shake_hands(v, PUNCHTUN, PresharedKey(v["preshared key"]), v["offer"][0])
    to_responder = _keypair(agreed, v["responder index"], is_initiator=True)
    to_initiator = _keypair(agreed, v["initiator index"], is_initiator=False)
    results["identifier"] = PUNCHTUN.identifier
    results["first frame, empty"] = to_responder.seal(b"")
    results["first frame back, a good-bye"] = to_initiator.seal(bytes.fromhex("05000000"))
    return results


def server_handshake(v: Values) -> Values:
    token = v["access token"]
    results, agreed = _shake_hands(v, server_construction(token), server_preshared_key(token), 0)
    to_responder = _keypair(agreed, v["responder index"], is_initiator=True)
    results["identifier"] = PUNCHTUN_SERVER.identifier
    results["first frame, a leave"] = to_responder.seal(bytes.fromhex("07000000"))
    return results


def cookie(v: Values) -> Values:
    public = PublicKey(v["responder key"])
    chunks = iter([v["cookie secret"], v["nonce"]])
    checker = CookieChecker(PUNCHTUN, public, lambda _: next(chunks))
    generator = CookieGenerator(PUNCHTUN, public)
    stamped = generator.stamp(v["initiation"], 0.0)
    assert stamped == v["initiation"]
    reply = checker.create_reply(stamped, v["endpoint"], 0.0)
    generator.consume_reply(reply, 0.0)
    assert unpack_endpoint(v["endpoint"]) == Endpoint("192.0.2.1", 32853)
    return {
        "cookie": mac(v["cookie secret"], v["endpoint"]),
        "cookie key": blake2s(b"cookie--" + public.data),
        "cookie reply": reply.pack(),
        "mac2 of the same initiation": generator.stamp(v["initiation"], 0.0)[-16:],
    }


def timestamps(v: Values) -> Values:
    return {
        "1970-01-01T00:00:00Z": timestamp(0.0),
        "2023-11-14T22:13:20.5Z": timestamp(1.7e9 + 0.5),
    }


def certificate(v: Values) -> Values:
    signing = SigningKey(v["signing key"])
    signature = signing.sign(SIGNED_PREFIX + v["signed part"])
    return {"network key": signing.verify_key.data, "certificate": v["signed part"] + signature}


def announcement(v: Values) -> Values:
    plaintext = (
        b"\1"
        + v["instance"]
        + v["issued"]
        + len(v["certificate"]).to_bytes(2, "little")
        + v["certificate"]
        + v["candidates"]
    )
    key, tag = derive_key(b"announcement", v["network secret"]), v["network tag"]
    assert tag == derive_key(b"network tag", v["network secret"])[:16]
    return {
        "announcement": plaintext,
        "sealed": seal_blob(key, plaintext, v["nonce"], v["node key"] + tag),
    }


def joining(v: Values) -> Values:
    inviter, joiner = PrivateKey(v["inviter private key"]), PrivateKey(v["joiner private key"])
    token, nonce = v["token"], v["nonce"]
    request, answer, refusal = (
        join_key(label, joiner, inviter.public_key, part)
        for label, part in (
            (b"join request", token),
            (b"join answer", token),
            (b"join refusal", b""),
        )
    )
    return {
        "X25519 of both": joiner.exchange(inviter.public_key),
        "invitation id": invitation_id(token),
        "join request key": request,
        "join answer key": answer,
        "join refusal key": refusal,
        "request": b"\1" + invitation_id(token) + seal_blob(request, b"", nonce),
        "answer, expired": b"\1\2" + seal_blob(refusal, b"\2", nonce),
    }


def texts(v: Values) -> Values:
    server = ServerUrl("203.0.113.10", 12345, v["server key"], v["access token"])
    join = JoinString(v["inviter key"], v["token"], server)
    far = ServerUrl(
        "host", 12345, server.public_key, server.access_token, 443, "wss://vpn.example.org/punchtun"
    )
    results = {
        "server URL": server.text,
        "join string": join.text,
        "server URL with options": far.text,
        "join string with options": JoinString(v["inviter key"], v["token"], far).text,
    }
    assert parse_server_url(far.text) == far
    assert parse_join_string(results["join string with options"]).server == far
    return {name: text.encode() for name, text in results.items()}


def backup(v: Values) -> Values:
    chunks = iter([v["salt"], v["nonce"]])
    sealed = seal_with_passphrase(
        v["content"], v["passphrase"], lambda _: next(chunks), passes=1, memory=8
    )
    return {"backup": sealed.pack()}


def backup_text(v: Values) -> Values:
    lines = armour(v["file"], "of 0123456789ab; restore: punchtun network import").splitlines()
    return {f"line {number}": line.encode() for number, line in enumerate(lines)}


def endpoints(v: Values) -> Values:
    """Named by what they are."""
    made = {}
    for name in v:
        host, _, port = name.rpartition(" port ")
        made[name] = pack_endpoint(Endpoint(host, int(port)))
    return made


def sums(v: Values) -> Values:
    """Named by what is summed."""
    return {name: sum_words(bytes.fromhex(name)).to_bytes(2, "big") for name in v}


def cut(v: Values) -> Values:
    superpacket, size = v["superpacket"], v["size"][0]
    protocol, _, end = transport_of(superpacket)
    headers, payload = superpacket[:end], superpacket[end:]
    virtio = describe_run(headers, size, len(payload))
    assert protocol in (6, 17)
    packets = cut_superpacket(virtio.pack(), superpacket)
    return {f"packet {place}": packet for place, packet in enumerate(packets)}


VECTORS: dict[str, Callable[[Values], Values]] = {
    "primitives": primitives,
    "keys": keys,
    "frames": frames,
    "handshake": handshake,
    "handshake with ChaCha20-Poly1305": handshake,
    "handshake with the server": server_handshake,
    "cookie": cookie,
    "timestamps": timestamps,
    "certificate": certificate,
    "announcement": announcement,
    "joining": joining,
    "texts": texts,
    "backup": backup,
    "backup as text": backup_text,
    "endpoints": endpoints,
    "sums": sums,
    "cut, TCP over IPv4 with options": cut,
    "cut, TCP over IPv6": cut,
    "cut, UDP over IPv4 with options": cut,
    "cut, UDP over IPv6 with an extension header": cut,
}
"""By the name of the block."""
