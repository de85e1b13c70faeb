"""What we announce of ourselves, and what we make of a peer's announcement."""

from __future__ import annotations

from collections.abc import Sequence

from tunnel.core.candidates import admit_candidates, gather_candidates
from tunnel.core.configuration import LocalInterface, NodeConfig
from tunnel.core.machine import RandomBytes, WallClock
from tunnel.errors import AuthenticationFailed
from tunnel.noise.sealing import open_blob, seal_blob
from tunnel.wire.candidate import Announcement, Candidate, CandidateKind, parse_announcement
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.rendezvous import Introduction


class Announcer:
    def __init__(
        self, config: NodeConfig, random_bytes: RandomBytes, wall_clock: WallClock
    ) -> None:
        self.candidates: tuple[Candidate, ...] | None = None
        """Ours, once the network is known."""
        self.mapped: Endpoint | None = None
        """Where the home router forwards to our port; after a change call `gather`."""
        self._config = config
        self._random_bytes = random_bytes
        self._wall_clock = wall_clock
        self._instance = int.from_bytes(random_bytes(4), "little")
        self._interfaces: tuple[LocalInterface, ...] = ()
        self._port = 0
        self._gathered_from: tuple[Endpoint | None, ...] | None = None

    def set_network(self, interfaces: Sequence[LocalInterface], port: int) -> None:
        self._interfaces = tuple(interfaces)
        self._port = port
        self._gathered_from = None

    def set_port(self, port: int) -> None:
        self._port = port
        self._gathered_from = None

    def gather(self, reflexive: Sequence[Endpoint]) -> bool:
        """Bring `candidates` up to date; whether they have changed."""
        # Asked after every input, answered differently after very few of them.
        gathered_from = (self.mapped, *reflexive)
        if not self._port or self._gathered_from == gathered_from:
            return False
        self._gathered_from = gathered_from
        candidates = gather_candidates(self._interfaces, self._port, reflexive, self.mapped)
        has_changed = candidates != self.candidates
        self.candidates = candidates
        return has_changed

    def seal(self) -> bytes:
        """The announcement, for members' eyes only."""
        announcement = Announcement(
            self._instance,
            int(self._wall_clock() * 1e6),
            self._config.certificate.pack(),
            self.candidates or (),
        )
        identity = self._config.identity
        associated = self._config.certificate.key + identity.tag
        nonce = self._random_bytes(24)
        return seal_blob(identity.announcement_key, announcement.pack(), nonce, associated)

    def open(self, introduction: Introduction) -> Announcement:
        """A peer's announcement. Raises Malformed, AuthenticationFailed."""
        identity = self._config.identity
        associated = introduction.peer + identity.tag
        blob = open_blob(identity.announcement_key, introduction.announcement, associated)
        announcement = parse_announcement(blob)
        certificate = identity.verify(announcement.certificate, self._wall_clock())
        if certificate.key != introduction.peer:
            raise AuthenticationFailed("announcement of another node")
        return announcement

    def admit(self, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """Those worth a check from here."""
        own = self._config.certificate.addresses
        return admit_candidates(candidates, self._interfaces, own)

    def admit_introduced(
        self, introduction: Introduction, announcement: Announcement
    ) -> tuple[Candidate, ...]:
        """What the peer announced, and where the server sees it."""
        observed = Candidate(CandidateKind.SERVER_REFLEXIVE, introduction.observed)
        others = [c for c in announcement.candidates if c.endpoint != introduction.observed]
        return self.admit([*others, observed])
