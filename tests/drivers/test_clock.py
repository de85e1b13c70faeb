from __future__ import annotations

from tunnel.drivers import clock


class Clocks:
    def __init__(self) -> None:
        self.boot, self.mono, self.pause = 1000.0, 400.0, 0.0

    def boottime(self) -> float:
        return self.boot

    def monotonic(self) -> float:
        self.mono += self.pause
        self.boot += self.pause
        return self.mono

    def pass_by(self, seconds: float) -> None:
        self.boot += seconds
        self.mono += seconds


def watch(clocks: Clocks) -> clock.SuspendWatch:
    return clock.SuspendWatch(clocks.boottime, clocks.monotonic)


def test_awake_time_is_no_sleep() -> None:
    clocks = Clocks()
    suspend = watch(clocks)
    clocks.pass_by(3600)
    assert suspend.slept() == 0.0


def test_a_sleep_is_told_once() -> None:
    clocks = Clocks()
    suspend = watch(clocks)
    clocks.boot += 90.0
    clocks.pass_by(2)
    assert suspend.slept() == 90.0
    assert suspend.slept() == 0.0


def test_a_process_taken_off_the_cpu_did_not_sleep() -> None:
    clocks = Clocks()
    suspend = watch(clocks)
    pauses = iter([0.0, 5.0, 0.0, 0.0])

    def monotonic() -> float:
        clocks.pass_by(next(pauses))
        return clocks.mono

    suspend._monotonic = monotonic
    assert suspend.slept() == 0.0


def test_the_real_clocks() -> None:
    assert clock.SuspendWatch().slept() == 0.0
    assert clock.now() <= clock.now()
    assert clock.wall_clock() > 1.7e9
    assert len(clock.random_bytes(32)) == 32
