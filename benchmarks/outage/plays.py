"""How a repetition goes once the tunnel works: stream, disturbance, evaluation."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from .figures import Figures, evaluate, worse
from .site import End, Stream
from .trial import Trial

Play = Callable[[Trial], dict[str, Figures]]
"""From a tunnel that works to figures of each direction: "left-right", "right-left"."""

WARM_UP = 3.0
"""Seconds of stream before the disturbance: a flow gets the router's long timeout after 2 s."""
PHASES = 10.0
"""Seconds, at most, that it comes later, at random: timers that began with the contender must not
always stand alike when it happens."""
STRAGGLERS = 1.0
"""Seconds that the last packets have for arriving."""
LOSS_PERCENT = 10.0
LOSS_SECONDS = 60.0
IDLE_SECONDS = 45.0
IDLE_INTERVAL = 0.1


def under_stream(
    disturb: Callable[[Trial], float | None], *, at_least: float = 0.0, left_sends: bool = True
) -> Play:
    """Play with the stream on, for the contender's patience or `at_least` so many seconds.

    `disturb` returns when (CLOCK_MONOTONIC) the counting begins; None: with the stream.
    """

    def play(trial: Trial) -> dict[str, Figures]:
        stream = trial.stream = Stream(
            trial.site, trial.addresses, trial.folder, left_sends=left_sends
        )
        time.sleep(WARM_UP + random.uniform(0.0, PHASES))
        begin = disturb(trial) or stream.began
        patience = max(trial.contender.patience, at_least)
        end = time.monotonic() + patience
        time.sleep(patience + STRAGGLERS)
        directions = _both_directions(stream, begin, end)
        return directions if left_sends else {"right-left": directions["right-left"]}

    return play


def _both_directions(stream: Stream, begin: float, end: float) -> dict[str, Figures]:
    left, right = stream.finish()
    return {
        "left-right": evaluate(left, right, begin, end),
        "right-left": evaluate(right, left, begin, end),
    }


def under_loss(trial: Trial) -> dict[str, Figures]:
    """A minute without loss, then one with it; the bytes on left's uplink in both."""
    left = trial.site.left

    def bytes_in(seconds: float) -> int:
        before = left.interface_counters()
        time.sleep(seconds)
        after = left.interface_counters()
        return after.rx_bytes - before.rx_bytes + after.tx_bytes - before.tx_bytes

    stream = Stream(trial.site, trial.addresses, trial.folder)
    time.sleep(WARM_UP)
    clean = bytes_in(LOSS_SECONDS)
    begin = trial.disturbed()
    left.shape(loss_percent=LOSS_PERCENT)
    lossy = bytes_in(LOSS_SECONDS)
    end = time.monotonic()
    time.sleep(STRAGGLERS)
    trial.notes = {"wire_ratio": lossy / clean, "wire_bytes_clean": clean, "wire_bytes": lossy}
    return _both_directions(stream, begin, end)


def after_silence(trial: Trial) -> dict[str, Figures]:
    """After a silence one side sends a packet every 100 ms. `gap` is the time from the first one
    to the first arrival: next to nothing if the way was open."""
    hosts, addresses = [trial.site.left, trial.site.right], list(trial.addresses)
    direction = "left-right"
    if trial.repetition % 2:
        hosts.reverse()
        addresses.reverse()
        direction = "right-left"
    receiver = End(hosts[1], addresses[1], addresses[0], trial.folder, None)
    receiver.wait_until_ready()
    time.sleep(IDLE_SECONDS)
    begin = trial.disturbed()
    sender = End(hosts[0], addresses[0], addresses[1], trial.folder, IDLE_INTERVAL)
    sender.wait_until_ready()
    end = time.monotonic() + trial.contender.patience
    time.sleep(trial.contender.patience + STRAGGLERS)
    sent, received = sender.finish(), receiver.finish()
    begin = max(begin, sent.sent[0][1])  # not when Python began to start
    figures = evaluate(sent, received, begin, end)
    first = min((at for _, at in received.received), default=end)
    return {direction: replace(figures, gap=first - begin)}


def worse_direction(directions: Mapping[str, Figures]) -> Figures:
    """The worse of the directions measured, figure by figure."""
    first, *others = directions.values()
    for other in others:
        first = worse(first, other)
    return first
