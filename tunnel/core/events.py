"""What the core reports. Rare things only: a packet is never an event."""

from __future__ import annotations

from dataclasses import dataclass

from tunnel.wire.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class ServerRegistered:
    """The server answered our registration."""

    endpoint: Endpoint
    observed: Endpoint
    """Where it sees us; `::` port 0 on a stream, where it sees no UDP."""


@dataclass(frozen=True, slots=True)
class ServerLost:
    """The server no longer answers. Established paths live on."""

    reason: str


@dataclass(frozen=True, slots=True)
class RelayRefused:
    """The server does not relay for our network, or not all of it."""

    code: str
    """relay-quota, relay-pairs or relay-rate."""
    reason: str
    fix: str


@dataclass(frozen=True, slots=True)
class TransportChanged:
    """What carries our datagrams to the server: "udp", "tcp" or "websocket"."""

    before: str
    after: str
    cause: str


@dataclass(frozen=True, slots=True)
class MappingMoved:
    """The server sees us at another endpoint than before."""

    before: Endpoint
    after: Endpoint


@dataclass(frozen=True, slots=True)
class PortMapped:
    """The router forwards a UDP port to us."""

    protocol: str
    """pcp, nat-pmp or upnp."""
    external: Endpoint
    is_reachable: bool
    """False: the external address is private, so another NAT is before the router."""


@dataclass(frozen=True, slots=True)
class PortMappingLost:
    """The router forwards it no more."""

    external: Endpoint
    reason: str


@dataclass(frozen=True, slots=True)
class PeerIntroduced:
    """A member with a valid certificate, heard of for the first time since start."""

    peer: str


@dataclass(frozen=True, slots=True)
class AddressContested:
    """The certificates of two members, of whom one may be this node, hold the same address."""

    address: str
    """With its prefix length."""
    holder: str
    """Whose it is on every node: its certificate is the older."""
    other: str
    """Who cannot use it, and ought to join again by a new invitation."""


@dataclass(frozen=True, slots=True)
class PeerGone:
    """The peer said good-bye, or the server no longer hears it."""

    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class MemberRevoked:
    """The network's key has expelled a member, for ever. Keep the revocations."""

    peer: str
    """Its name; empty if it was not known here."""
    key: str
    """Its public key."""
    is_own: bool = False
    """It is this node, which is silent from now on."""
    successor: str = ""
    """The public key that the member has instead: it has rotated its key, and is a member still."""


@dataclass(frozen=True, slots=True)
class RotationAsked:
    """A member asks for a new key. The answer waits until the ledger is saved."""

    peer: str


@dataclass(frozen=True, slots=True)
class KeyReplaced:
    """Our request for a new key is answered: keep the grant, and use it from the next start on."""

    inviter: str
    """Who has answered."""
    key: str
    """The new public key; empty: refused, for another key has taken the place of ours before."""


@dataclass(frozen=True, slots=True)
class SessionEstablished:
    peer: str
    seconds: float
    """Since the handshake began, 0 for the responder."""


@dataclass(frozen=True, slots=True)
class PathChanged:
    """Traffic to the peer now takes another way."""

    peer: str
    before: str
    """A kind and an endpoint, "relay" or "none"."""
    after: str
    cause: str


@dataclass(frozen=True, slots=True)
class PathDoubted:
    """Echoes fail: from now on frames go both ways, direct and relayed."""

    peer: str
    path: str


@dataclass(frozen=True, slots=True)
class PathRepaired:
    """Doubt has ended with a proven direct path."""

    peer: str
    before: str
    after: str
    seconds: float
    """How long the doubt lasted."""
    lost: int
    """Frames of the peer that had not arrived by then, and that the doubt may have cost."""
    duplicates: int
    """Copies dropped meanwhile."""


@dataclass(frozen=True, slots=True)
class PathMeasured:
    """How large a packet the path to the peer carries whole, where that is not any."""

    peer: str
    path: str
    mtu: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class PingAnswered:
    """The answer to ``Node.ping``."""

    peer: str
    transaction: int
    seconds: float
    way: str
    """An endpoint, or "relay"."""


@dataclass(frozen=True, slots=True)
class InvitationRedeemed:
    """Save the ledger, then call ``Node.ledger_saved`` with the revision that was saved: only then
    is the joiner answered."""

    name: str


@dataclass(frozen=True, slots=True)
class RebindWanted:
    """Punching fails again and again from this local port: a poisoned entry in some router's table
    may be why. Bind another port and call ``Node.rebound``."""


@dataclass(frozen=True, slots=True)
class SocketsReleased:
    """The sockets with these numbers (``Transmit.local``), which were opened when something was
    first sent from them, are to be closed, after what is to be sent now. What is sent from such a
    number later leaves from a new socket."""

    locals: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FloodBegan:
    """So many datagrams come from strangers that most of them are not read any more, until a
    FloodEnded: `core/sieve.py`."""

    rate: int
    """Of those read, a second."""


@dataclass(frozen=True, slots=True)
class FloodEnded:
    """Everything is read again."""

    seconds: float
    """Since it began."""
    datagrams: int
    """About so many came from strangers, by those that were read."""


@dataclass(frozen=True, slots=True)
class PeersChanged:
    """A certificate or endpoint worth remembering over a restart has changed."""


Event = (
    ServerRegistered
    | ServerLost
    | RelayRefused
    | TransportChanged
    | MappingMoved
    | PortMapped
    | PortMappingLost
    | PeerIntroduced
    | AddressContested
    | PeerGone
    | MemberRevoked
    | RotationAsked
    | KeyReplaced
    | SessionEstablished
    | PathChanged
    | PathDoubted
    | PathRepaired
    | PathMeasured
    | PingAnswered
    | InvitationRedeemed
    | RebindWanted
    | SocketsReleased
    | FloodBegan
    | FloodEnded
    | PeersChanged
)
