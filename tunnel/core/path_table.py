"""One peer's endpoints: those it may be at (candidates), and those checked or heard (paths)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tunnel.core.path import Path
from tunnel.wire.candidate import Candidate, CandidateKind
from tunnel.wire.endpoint import Endpoint

FORGET_PATH_AFTER = 120.0
MAX_PATHS = 64
MAX_ADDED_CANDIDATES = 16
"""Kept beside the announced ones; the oldest goes first."""


class PathTable:
    """Bounded, whatever a peer claims. Paths are made when they are first needed."""

    def __init__(self) -> None:
        self._paths: dict[Endpoint, Path] = {}
        self._candidates: dict[Endpoint, CandidateKind] = {}
        self._added: list[Endpoint] = []
        """Candidates the peer did not announce, oldest first."""

    def __iter__(self) -> Iterator[Path]:
        return iter(self._paths.values())

    @property
    def candidates(self) -> list[Endpoint]:
        return list(self._candidates)

    @property
    def added(self) -> list[Candidate]:
        """Candidates the peer did not announce, oldest first."""
        return [Candidate(self._candidates[endpoint], endpoint) for endpoint in self._added]

    def set_candidates(self, candidates: Sequence[Candidate]) -> None:
        """Replace what the peer announced. Paths already found stay."""
        self._candidates = {endpoint: kind for kind, endpoint in candidates}
        self._added.clear()

    def add_candidate(self, candidate: Candidate) -> None:
        if candidate.endpoint in self._candidates:
            return
        if len(self._added) >= MAX_ADDED_CANDIDATES:
            del self._candidates[self._added.pop(0)]
        self._candidates[candidate.endpoint] = candidate.kind
        self._added.append(candidate.endpoint)

    def get(self, endpoint: Endpoint) -> Path | None:
        return self._paths.get(endpoint)

    def of_candidates(self, now: float, keep: Path | None) -> list[Path]:
        """A path for every candidate."""
        return [
            self._paths.get(endpoint) or self.add(endpoint, now, keep, kind)
            for endpoint, kind in list(self._candidates.items())
        ]

    def add(
        self, endpoint: Endpoint, now: float, keep: Path | None, kind: CandidateKind | None = None
    ) -> Path:
        """A new path. If there are too many, the one proven longest ago goes, but never `keep`."""
        if len(self._paths) >= MAX_PATHS:
            unused = (path for path in self if path is not keep)
            oldest = min(unused, key=lambda p: p.proven_at or p.created_at - FORGET_PATH_AFTER)
            del self._paths[oldest.endpoint]
        known = kind or self._candidates.get(endpoint, CandidateKind.PEER_REFLEXIVE)
        path = self._paths[endpoint] = Path(endpoint, known, now)
        return path

    @property
    def heard_at(self) -> Endpoint | None:
        """Where anything came from last."""
        heard = [path for path in self if path.received_at is not None]
        latest = max(heard, key=lambda path: path.received_at or 0.0, default=None)
        return None if latest is None else latest.endpoint

    def find_pinged(self, transaction: int, source: Endpoint) -> Path | None:
        """The path with that check under way, answered from `source`. That may be another endpoint
        than was pinged: the peer's mapping varies, and what we send to the one endpoint comes back
        from the other."""
        path = self.get(source)
        if path is not None and transaction in path.pending:
            return path
        return next((path for path in self if transaction in path.pending), None)

    def forget_stale(self, now: float, keep: Path | None) -> None:
        """Drop the paths that nothing was sent to or heard from for long, but not `keep`."""
        for path in list(self):
            last = max(path.created_at, path.received_at or 0.0, path.pinged_at or 0.0)
            if path is not keep and now - last > FORGET_PATH_AFTER:
                del self._paths[path.endpoint]

    def clear(self) -> None:
        """Forget the paths; the candidates stay."""
        self._paths.clear()
