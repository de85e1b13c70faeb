"""The attackers' program: `python -m tests.netns.attacks PLAN`, in the attacker's namespace.

PLAN is a JSON object: `attack` names the function below, the rest are its arguments. It prints what
was sent, as JSON. Nothing else is printed, and nothing is received.
"""

from __future__ import annotations

import json
import random
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from tunnel.core.server_session import server_construction
from tunnel.noise.handshake import PUNCHTUN, Construction
from tunnel.noise.keys import PublicKey
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.invitation import parse_server_url

from .connections import Poured, hold, pour
from .datagrams import forge_initiation, make_initiation, strange_datagrams
from .packets import BATCH, Burst, Sent, open_raw, send_slowly, udp_packet

LONGEST = 1500 - 40 - 8
"""Bytes of a datagram that IPv6 takes whole on Ethernet."""
Address = Sequence[object]
"""Host and port, as JSON has them."""


def forged_source(chance: random.Random, target: Endpoint) -> Endpoint:
    """Of the family of `target`, one of 198.18.0.0/15 or 2001:db8:f::/48, which are the attacker's
    in the laboratory. Those of IPv6 all add the same to a checksum."""
    if target.is_ipv6:
        word = chance.randrange(1 << 16)
        return Endpoint(f"2001:db8:f::{word:x}:{word ^ 0xFFFF:x}", chance.randrange(1024, 65536))
    host = f"198.{chance.randrange(18, 20)}.{chance.randrange(256)}.{chance.randrange(1, 255)}"
    return Endpoint(host, chance.randrange(1024, 65536))


def endpoint(address: Address) -> Endpoint:
    host, port = address
    assert isinstance(host, str)
    assert isinstance(port, int)
    return Endpoint(host, port)


def strange(targets: Sequence[Address], count: int, seed: int) -> Sent:
    """Noise and messages under wrong keys, from many sources."""
    chance = random.Random(seed)
    ends = [endpoint(target) for target in targets]
    datagrams = islice(strange_datagrams(chance), count)
    return send_slowly(
        udp_packet(
            forged_source(chance, ends[number % len(ends)]),
            ends[number % len(ends)],
            datagram[:LONGEST],
        )
        for number, datagram in enumerate(datagrams)
    )


def non_member(target: Address, key: str, count: int, seed: int) -> Sent:
    """Handshakes without a fault, by somebody who knows the node's public key and is no member."""
    chance, responder = random.Random(seed), PublicKey.parse(key)
    return send_slowly(
        (
            udp_packet(
                forged_source(chance, endpoint(target)),
                endpoint(target),
                make_initiation(PUNCHTUN, responder, chance),
            )
            for _ in range(count)
        ),
        batch=8,
    )


def stun(target: Address, victim: Address, count: int) -> Sent:
    """Binding requests that seem to come from the victim."""
    return send_slowly(
        udp_packet(
            endpoint(victim),
            endpoint(target),
            b"\0\1\0\0\x21\x12\xa4\x42" + number.to_bytes(12, "big"),
        )
        for number in range(count)
    )


def send(file: str) -> Sent:
    """Packets of the file: length (2, big-endian), whole IPv4 packet, and so on."""
    return send_slowly(_read_packets(Path(file).read_bytes()))


def flood(
    target: Address,
    seconds: float,
    seed: int,
    url: str | None = None,
    key: str | None = None,
    rate: float = 0.0,
    until: str = "",
) -> Sent:
    """Initiations from forged sources, as fast as can be, or `rate` a second, until there is a file
    `until`. By `url` or `key` they have a valid mac1; with neither they are noise in form."""
    chance = random.Random(seed)
    construction, responder = PUNCHTUN, PublicKey(chance.randbytes(32))
    if url is not None:
        server = parse_server_url(url)
        construction = server_construction(server.access_token)
        responder = PublicKey(server.public_key)
    elif key is not None:
        responder = PublicKey.parse(key)
    burst = _make_burst(endpoint(target), construction, responder, chance)
    began, datagrams, size = time.monotonic(), 0, 0
    with open_raw(is_ipv6=burst.is_ipv6) as raw:
        while (now := time.monotonic()) < began + seconds and not (until and Path(until).exists()):
            if rate and datagrams > rate * (now - began):
                time.sleep(0.002)
                continue
            _forge_sources(burst, chance)
            sent = burst.send(raw)
            datagrams += sent
            size += burst.size * sent // len(burst)
    return Sent(datagrams, size, time.monotonic() - began)


def _make_burst(
    target: Endpoint, construction: Construction, responder: PublicKey, chance: random.Random
) -> Burst:
    return Burst(
        [
            udp_packet(
                forged_source(chance, target),
                target,
                forge_initiation(construction, responder, chance),
            )
            for _ in range(BATCH)
        ]
    )


def _forge_sources(burst: Burst, chance: random.Random) -> None:
    """Others than before: the two low bytes of the address, and the port; of IPv6 two words of the
    address, which together are as before to the checksum."""
    width = len(burst.data) // len(burst)
    if burst.is_ipv6:
        for offset in (20, 21):
            words = chance.randbytes(len(burst))
            burst.data[offset::width] = words
            burst.data[offset + 2 :: width] = words.translate(_INVERTED)
        return
    for offset in (14, 15, 20, 21):
        burst.data[offset::width] = chance.randbytes(len(burst))


_INVERTED = bytes(range(255, -1, -1))


def _read_packets(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 2], "big")
        yield data[at + 2 : at + 2 + length]
        at += 2 + length


def inner_source(
    interface: str, source: str, target: str, count: int, size: int, segments: int
) -> Sent:
    """Packets through the attacker's own tunnel, from an inner address that is another member's;
    `segments` more than 1: as superpackets."""
    is_ipv6 = ":" in source
    opened = socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
    level, free = (socket.IPPROTO_IPV6, 75) if is_ipv6 else (socket.IPPROTO_IP, 19)
    opened.setsockopt(level, free, 1)  # IPV6_TRANSPARENT, IP_TRANSPARENT
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
    opened.bind((source, 4242))
    if segments > 1:
        opened.setsockopt(socket.SOL_UDP, 103, size)  # UDP_SEGMENT
    began = time.monotonic()
    for _ in range(count):
        opened.sendto(b"not mine" * (size * segments // 8), (target, 9))
        time.sleep(0.002)
    return Sent(count * segments, count * segments * size, time.monotonic() - began)


def main() -> None:
    plan = json.loads(sys.argv[1])
    attacks: dict[str, Callable[..., Sent | Poured]] = {
        f.__name__: f for f in (strange, non_member, stun, send, flood, inner_source, hold, pour)
    }
    sent = attacks[plan.pop("attack")](**plan)
    print(json.dumps(sent._asdict()))


if __name__ == "__main__":
    main()
