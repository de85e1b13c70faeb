"""What a traversal wants done by its owner, who asks after every input to it."""

from __future__ import annotations


class Wishes:
    """Each is granted once: taking it takes it back."""

    def __init__(self) -> None:
        self.was_moved = False
        self.wants_witness = False
        self.wants_introduction = False
        self.resend_since: float | None = None

    def take_was_moved(self) -> bool:
        """Whether the peer now sees us elsewhere than before: our own mapping has moved."""
        was_moved, self.was_moved = self.was_moved, False
        return was_moved

    def take_wants_witness(self) -> bool:
        """Whether the server should see where we are: our mapping may have moved."""
        wants, self.wants_witness = self.wants_witness, False
        return wants

    def take_wants_introduction(self) -> bool:
        """Whether the server should be asked to introduce the pair again, for a common start."""
        wants, self.wants_introduction = self.wants_introduction, False
        return wants

    def take_resend_since(self) -> float | None:
        """Packets sent from that time on may never have arrived: they should be sent again by the
        ways there are now. The replay window drops what had arrived after all."""
        since, self.resend_since = self.resend_since, None
        return since
