"""What we announce of ourselves, and what we make of a peer's announcement."""

from __future__ import annotations

from collections.abc import Sequence

from tunnel.core.candidates import (
    HostAddress,
    admit_candidates,
    gather_candidates,
    private_networks,
)
from tunnel.core.configuration import NodeConfig
from tunnel.core.machine import RandomBytes, WallClock
from tunnel.errors import AuthenticationFailed
from tunnel.noise.sealing import open_blob, seal_blob
from tunnel.wire.candidate import Announcement, Candidate, CandidateKind, parse_announcement
from tunnel.wire.certificate import Network
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
        self._addresses: tuple[HostAddress, ...] = ()
        self._routes: tuple[Network, ...] = ()
        self._port = 0
        self._gathered_from: tuple[Endpoint | None, ...] | None = None
        self._told: tuple[Candidate, ...] = ()
        """Those of the last announcement."""

    def set_network(
        self, addresses: Sequence[HostAddress], port: int, routes: Sequence[Network] = ()
    ) -> None:
        self._addresses = tuple(addresses)
        self._port = port
        self._gathered_from = None
        self.set_routes(routes)

    def set_port(self, port: int) -> None:
        self._port = port
        self._gathered_from = None

    def set_routes(self, routes: Sequence[Network]) -> bool:
        """Whether others of a peer's candidates may be worth a check than before."""
        before, self._routes = self._routes, private_networks(routes)
        return set(before) != set(self._routes)

    def gather(self, reflexive: Sequence[Endpoint], alternate: Sequence[Endpoint] = ()) -> bool:
        """Bring `candidates` up to date; whether they have changed."""
        # Asked after every input, answered differently after very few of them.
        gathered_from = (self.mapped, *reflexive, None, *alternate)
        if not self._port or self._gathered_from == gathered_from:
            return False
        self._gathered_from = gathered_from
        candidates = gather_candidates(
            self._addresses, self._port, reflexive, self.mapped, alternate
        )
        has_changed = candidates != self.candidates
        self.candidates = candidates
        return has_changed

    def has_news_since(self, before: Sequence[Candidate] | None, known: Endpoint | None) -> bool:
        """Whether peers must be told what has changed since the candidates were `before`, although
        the server tells them of `known`. Alternate ones can wait for who does not do without."""
        if before is None:
            return True
        fresh, left = set(self.candidates or ()) - set(before), set(before)
        left -= set(self.candidates or ())
        has_left = any(c.kind is CandidateKind.HOST for c in left)
        return has_left or any(
            c.endpoint != known and c.kind is not CandidateKind.ALTERNATE_REFLEXIVE for c in fresh
        )

    @property
    def has_untold_alternate(self) -> bool:
        """Whether there are alternate candidates that no peer has heard of."""
        return any(
            c.kind is CandidateKind.ALTERNATE_REFLEXIVE and c not in self._told
            for c in self.candidates or ()
        )

    def seal(self) -> bytes:
        """The announcement, for members' eyes only."""
        self._told = self.candidates or ()
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
        return admit_candidates(
            candidates,
            self._addresses,
            self._config.certificate.addresses,
            routes=self._routes,
            own_endpoints=[c.endpoint for c in self.candidates or ()],
        )
