"""What a node or a server is told at start. Frozen; made by ``tunnel.config``, never changed."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from tunnel.constants import TUNNEL_MTU
from tunnel.core.membership import NetworkIdentity
from tunnel.core.relay_allowance import Quota, RelayUse
from tunnel.noise.keys import PrivateKey
from tunnel.wire.certificate import Certificate
from tunnel.wire.confidential import Confidential
from tunnel.wire.endpoint import Endpoint
from tunnel.wire.invitation import ServerUrl


@dataclass(frozen=True)
class KnownPeer:
    """A member remembered from an earlier run."""

    certificate: bytes
    """Packed; verified again before use."""
    endpoints: tuple[Endpoint, ...] = ()
    """Where it was last reached directly."""


@dataclass(frozen=True)
class NodeConfig:
    static: PrivateKey
    identity: NetworkIdentity
    certificate: Certificate
    """This node's own."""
    server: ServerUrl
    known_peers: tuple[KnownPeer, ...] = ()
    revocations: tuple[bytes, ...] = ()
    """Known from earlier runs, packed; verified again before use."""
    announced: tuple[bytes, ...] = ()
    """Beginnings of revoked keys, as the admission says."""
    next_static: PrivateKey | None = None
    """The key that shall take the place of this one, if a rotation has begun."""
    mtu: int = TUNNEL_MTU
    may_rebind: bool = True
    """Whether another local port may be taken when punching keeps failing from this one."""
    may_guess: bool = True
    """Whether ports may be guessed where they are not known: from many sockets, to many ports."""
    may_use_aegis: bool = True
    """Whether frames may be sealed with AEGIS-128L: faster than ChaCha20-Poly1305 where the CPU has
    AES instructions and much slower where not, so only there should it be true."""
    port_mapping: bool = True
    """Whether the home router is asked to forward a port (PCP, NAT-PMP, UPnP)."""
    version: str = ""


@dataclass(frozen=True)
class ServerConfig(Confidential):
    static: PrivateKey
    access_token: bytes = field(repr=False)
    relay: bool = True
    """Whether frames are relayed for pairs that have no direct path."""
    alternate_port: int = 12346
    """UDP port of the listener with number 1."""
    listeners: tuple[Endpoint | None, ...] = ()
    """First port of each pair of listeners, local numbers 0 and 1, 2 and 3, …, where it has an
    address of its own; None: it takes all addresses of the machine."""
    max_nodes: int = 100_000
    """Registered."""
    max_nodes_per_source: int = 1_000
    """Of one IPv4 address or IPv6 /64."""
    max_waiting: int = 4_096
    """Sessions that are not registered, such as joiners'; each ends after 30 s of silence."""
    max_waiting_per_source: int = 64
    max_networks: int = 25_000
    max_networks_per_source: int = 100
    """By where their first node is."""
    max_streams: int = 10_000
    """TCP and WebSocket streams open at once."""
    max_streams_per_source: int = 64
    """Of one IPv4 address or IPv6 /64; as many nodes behind one carrier's NAT as that."""
    max_nodes_per_network: int = 1_000
    max_letters: int = 4_096
    """Join requests and answers kept for nodes that are away, of at most 1024 bytes each."""
    max_channels: int = 1_000_000
    """Pairs that may relay."""
    relay_pairs: int = 50_000
    """The same in one network."""
    relay_rate_per_node: float = 1.25e9
    """Bytes a second that one node may have relayed."""
    relay_rate: float | None = None
    """The same for one network; shared fairly between its pairs."""
    relay_quota: Quota | None = None
    """Of one network."""
    relay_use: RelayUse | None = field(default=None, repr=False)
    """What of it an earlier run has used."""


LocalInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
