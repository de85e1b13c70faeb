from __future__ import annotations

import pytest

from tests.core.ends import WALL
from tunnel.core.periods import DAY, Period, span_of
from tunnel.core.relay_allowance import MAX_USES, Quota, RelayAllowance, RelayUse
from tunnel.wire.rendezvous import RefusalReason

NET, OTHER = b"a" * 16, b"b" * 16
QUOTA = Quota(10_000, Period.DAY)


class Lab:
    def __init__(
        self, quota: Quota | None = QUOTA, rate: float | None = None, use: RelayUse | None = None
    ) -> None:
        self.now = 0.0
        self.allowance = RelayAllowance(rate, quota, self.wall, use)

    def wall(self) -> float:
        return WALL + self.now

    def take(self, network: bytes = NET, size: int = 1000) -> RefusalReason | None:
        return self.allowance.take(network, 1, self.now, size)


def test_without_limits_nothing_is_kept() -> None:
    lab = Lab(quota=None)
    assert not lab.allowance.is_limited
    assert all(lab.take() is None for _ in range(1000))
    assert lab.allowance.take_use() is None
    assert not lab.allowance.is_used_up(NET, 0.0)


def test_a_quota_is_used_up_by_one_network_and_begins_anew() -> None:
    lab = Lab()
    assert [lab.take() for _ in range(12)] == [None] * 10 + [RefusalReason.RELAY_QUOTA] * 2
    assert lab.allowance.is_used_up(NET, lab.now)
    assert lab.take(OTHER) is None
    assert lab.allowance.ends_at == span_of(Period.DAY, WALL).end
    lab.now = lab.allowance.ends_at - WALL - 1
    assert lab.take() is RefusalReason.RELAY_QUOTA
    lab.now += 1
    assert lab.take() is None
    assert lab.allowance.ends_at == span_of(Period.DAY, WALL).end + DAY


def test_a_datagram_that_would_be_too_much_is_refused_and_a_smaller_one_goes() -> None:
    lab = Lab()
    assert lab.take(size=9_500) is None
    assert lab.take(size=501) is RefusalReason.RELAY_QUOTA
    assert lab.take(size=500) is None
    assert lab.take(size=1) is RefusalReason.RELAY_QUOTA


@pytest.mark.parametrize("period", list(Period))
def test_a_restart_gives_no_quota_anew(period: Period) -> None:
    quota = Quota(10_000, period)
    lab = Lab(quota)
    for _ in range(8):
        lab.take()
    use = lab.allowance.take_use()
    assert use is not None
    assert NET.hex() not in str(use), "a tag is a secret of its network"
    assert lab.allowance.take_use() is None
    again = Lab(quota, use=use)
    assert [again.take() for _ in range(3)] == [None, None, RefusalReason.RELAY_QUOTA]
    later = Lab(quota, use=use._replace(period="2001-01"))
    assert [later.take() for _ in range(10)] == [None] * 10


def test_a_new_period_is_kept_too() -> None:
    lab = Lab()
    lab.take()
    lab.allowance.take_use()
    lab.now += 2 * DAY
    assert not lab.allowance.is_used_up(NET, lab.now)
    use = lab.allowance.take_use()
    assert use == RelayUse(span_of(Period.DAY, WALL + 2 * DAY).name, {})


def test_networks_whose_use_is_kept_are_bounded_and_none_is_forgotten() -> None:
    lab = Lab()
    for _ in range(10):
        assert lab.take(NET) is None
    for number in range(MAX_USES - 1):
        assert lab.take(number.to_bytes(16, "big"), 1) is None
    assert lab.take(OTHER, 1) is RefusalReason.RELAY_QUOTA
    assert lab.take(NET, 1) is RefusalReason.RELAY_QUOTA
    assert lab.take(bytes(16), 1) is None
    use = lab.allowance.take_use()
    assert use is not None
    assert len(use.used) == MAX_USES


def test_what_is_dropped_for_the_rate_does_not_count() -> None:
    lab = Lab(Quota(10**9, Period.DAY), rate=1000.0)
    taken = sum(lab.take() is None for _ in range(1000))
    assert taken == 131, "half of the burst is left for who is owed it"
    assert lab.take() is RefusalReason.RELAY_RATE
    use = lab.allowance.take_use()
    assert use is not None
    assert list(use.used.values()) == [taken * 1000]
    assert lab.take(OTHER) is None, "each network has a rate of its own"
