"""The replay window against the plain set it stands for, frame by frame and by runs, mixed."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.noise.test_replay import steps
from tunnel.noise.replay import WINDOW, ReplayFilter


class Counters:
    """All that were seen."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.greatest = -1

    def is_fresh(self, counter: int) -> bool:
        return counter > self.greatest - WINDOW and counter not in self.seen

    def add(self, counters: range) -> None:
        self.seen.update(counters)
        self.greatest = max(self.greatest, counters[-1])


class Windows(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.window, self.model = ReplayFilter(), Counters()
        self.touched = [0]

    def at(self, step: int) -> int:
        return max(0, self.window.greatest + step)

    @rule(step=steps)
    def accept(self, step: int) -> None:
        counter = self.at(step)
        is_good = self.model.is_fresh(counter)
        assert self.window.accept(counter) == is_good
        if is_good:
            self.model.add(range(counter, counter + 1))
        self.touched.append(counter)

    @rule(step=steps, count=st.integers(0, 70) | st.integers(WINDOW - 2, WINDOW + 2))
    def accept_run(self, step: int, count: int) -> None:
        """A run counts whole or not at all."""
        first = self.at(step)
        counters = range(first, first + count)
        is_good = 0 < count <= WINDOW and all(map(self.model.is_fresh, counters))
        assert self.window.accept_run(first, count) == is_good
        if is_good:
            self.model.add(counters)
        self.touched += [first, first + count]

    @rule(step=st.integers(1, 70), again=st.integers(1, 5))
    def jump_and_repeat(self, step: int, again: int) -> None:
        counter = self.at(step)
        assert self.window.accept(counter)
        self.model.add(range(counter, counter + 1))
        assert not any(self.window.accept(counter) for _ in range(again))

    @invariant()
    def both_say_the_same(self) -> None:
        assert self.window.greatest == self.model.greatest
        self.touched = self.touched[-6:]
        for counter in self.touched:
            for near in (counter - WINDOW, counter - 1, counter, counter + 1, counter + WINDOW):
                if near >= 0:
                    assert self.window.is_fresh(near) == self.model.is_fresh(near)


Windows.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
TestWindows = Windows.TestCase
