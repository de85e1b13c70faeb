"""What a network may have relayed: its nodes are told why there is no more."""

from __future__ import annotations

import pytest

from tests.core.ends import ScriptedNode, Town
from tests.core.test_rendezvous import acknowledge, channels
from tunnel.core.periods import DAY, Period, span_of
from tunnel.core.registrant import REFUSAL_SPACING
from tunnel.core.relay_allowance import Quota
from tunnel.core.rendezvous import REFUSAL_SIZE
from tunnel.wire.relay import pack_relay
from tunnel.wire.rendezvous import Introduction, Leave, RefusalReason, Refused

QUOTA = Quota(100_000, Period.DAY)
OTHER_TAG = b"another network."


def limited(**limits: object) -> Town:
    return Town(**limits)  # type: ignore[arg-type]


def test_a_quota_that_is_used_up() -> None:
    town = limited(relay_quota=QUOTA)
    a, b, channel_a, _ = channels(town)
    datagram = pack_relay(channel_a, bytes(992))
    for _ in range(150):
        a.send_raw(datagram)
    assert len(b.channels) == 100
    assert town.server.status(town.clock.now)["networks_over_quota"] == 1
    assert town.server.drops["over the network's relay quota"] == 50
    end = int(span_of(Period.DAY, town.clock.wall()).end)
    refused = Refused(RefusalReason.RELAY_QUOTA, 0, end)
    assert a.take(Refused) == [refused], "told once in a while"
    assert b.take(Refused) == [], "it has sent nothing"
    town.advance(REFUSAL_SPACING)
    a.send_raw(datagram)
    assert a.take(Refused) == [refused]
    # Whoever registers is told at once.
    b.register(2)
    assert b.take(Refused) == [refused]
    # Another network has its own.
    others = [town.add(number, tag=OTHER_TAG) for number in (11, 12)]
    assert others[1].take(Refused) == []


def test_it_begins_anew_and_the_channels_are_still_there() -> None:
    town = limited(relay_quota=QUOTA)
    a, b, channel_a, _ = channels(town)
    for _ in range(101):
        a.send_raw(pack_relay(channel_a, bytes(992)))
    b.channels.clear()
    while span_of(Period.DAY, town.clock.wall()).end == town.server._allowance.ends_at:
        town.advance(100)
        for node in (a, b):
            node.connect()
            node.keep_alive()
            acknowledge(node)
    a.send_raw(pack_relay(channel_a, bytes(992)))
    assert len(b.channels) == 1
    assert town.server._allowance.ends_at % DAY == 0


def test_a_restart_with_the_use_kept() -> None:
    town = limited(relay_quota=QUOTA)
    a, _, channel_a, _ = channels(town)
    for _ in range(100):
        a.send_raw(pack_relay(channel_a, bytes(992)))
    use = town.server.take_relay_use()
    assert use is not None
    again = limited(relay_quota=QUOTA, relay_use=use)
    a, b, channel_a, _ = channels(again)
    assert [refused.reason for refused in a.take(Refused)] == [RefusalReason.RELAY_QUOTA]
    a.send_raw(pack_relay(channel_a, bytes(992)))
    assert b.channels == []


def test_the_answer_is_not_longer_than_what_is_refused() -> None:
    """An envelope is not authenticated: whoever knows a channel's number could forge its source."""
    town = limited(relay_quota=Quota(1, Period.DAY))
    a, _, channel_a, _ = channels(town)
    a.take(Refused)
    town.advance(REFUSAL_SPACING)
    a.send_raw(pack_relay(channel_a, bytes(REFUSAL_SIZE - 9)))
    assert a.take(Refused) == []
    seen: list[int] = []
    receive = a.receive
    a.receive = lambda datagram: (seen.append(len(datagram)), receive(datagram))[1]  # type: ignore[func-returns-value, method-assign]
    a.send_raw(pack_relay(channel_a, bytes(REFUSAL_SIZE - 8)))
    assert len(a.take(Refused)) == 1
    assert seen == [REFUSAL_SIZE]


def test_the_rate_of_one_network_is_shared_by_its_pairs_and_hurts_no_other() -> None:
    town = limited(relay_rate=100_000.0)
    a, b, channel_a, _ = channels(town)
    c, d, *_ = [town.add(number) for number in (3, 4)]
    (to_c,) = (i for i in d.take(Introduction) if i.peer == c.key.data)
    e, f = (town.add(number, tag=OTHER_TAG) for number in (11, 12))
    (to_f,) = f.take(Introduction)
    sent = 0
    for step in range(3000):
        town.clock.now += 0.01
        for _ in range(20):  # 2 MB a second.
            a.send_raw(pack_relay(channel_a, bytes(992)))
        if step % 5 == 0:  # 20 kB a second each.
            d.send_raw(pack_relay(to_c.channel, bytes(992)))
            f.send_raw(pack_relay(to_f.channel, bytes(992)))
            sent += 1
    assert len(c.channels) == len(e.channels) == sent
    assert len(b.channels) == pytest.approx(30 * 80 + 128, rel=0.05)
    assert {refused.reason for refused in a.take(Refused)} == {RefusalReason.RELAY_RATE}
    assert d.take(Refused) == f.take(Refused) == []


def test_pairs_of_one_network() -> None:
    town = limited(relay_pairs=1)
    a, b, channel_a, _ = channels(town)
    c = town.add(3)
    assert [i.channel for i in c.take(Introduction)] == [0, 0]
    refused = [Refused(RefusalReason.RELAY_PAIRS, 0)]
    assert c.take(Refused) == a.take(Refused) == b.take(Refused) == refused
    a.send_raw(pack_relay(channel_a, b"goes on"))
    assert len(b.channels) == 1
    pair = [town.add(number, tag=OTHER_TAG) for number in (11, 12)]
    assert [i.channel != 0 for i in pair[1].take(Introduction)] == [True]
    # A place that becomes free goes to whom asks next.
    b.send(Leave())
    acknowledge(a)
    c.register(2)
    assert [i.channel != 0 for i in c.take(Introduction)] == [True]


def test_pairs_in_all() -> None:
    town = limited(max_channels=1)
    channels(town)
    pair = [town.add(number, tag=OTHER_TAG) for number in (11, 12)]
    assert [i.channel for i in pair[1].take(Introduction)] == [0]
    assert [r.reason for r in pair[1].take(Refused)] == [RefusalReason.RELAY_PAIRS]


def test_who_has_the_key_but_not_the_token_has_no_relay() -> None:
    """Nor anything else: the server is as silent as to a stranger."""
    town = Town()
    channels(town)
    thief = ScriptedNode(town, 66, access=b"another token..X"[:16])
    thief.connect()
    assert not thief.is_connected
    assert town.server.drops["mac1"] == 1
    assert town.server.status(town.clock.now)["sessions"] == 2
