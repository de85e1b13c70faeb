"""Events as sentences, for the log, and as objects, for programs. One line per change
of state; no secret is in an event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from tunnel.core import events as core


def describe(event: core.Event, wall_time: float) -> dict[str, Any]:
    """As `punchtun events --json` has it."""
    entry: dict[str, Any] = {
        "time": round(wall_time, 3),
        "event": _snake_case(type(event).__name__),
    }
    for key, value in asdict(event).items():
        entry[key] = str(getattr(event, key)) if isinstance(value, (tuple, list)) else value
    return entry


def _snake_case(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")


def narrate(event: core.Event) -> str:
    match event:
        case core.ServerRegistered(endpoint=endpoint, observed=observed) if not observed.port:
            return f"connected to the server by a stream to {endpoint}"
        case core.ServerRegistered(endpoint=endpoint, observed=observed):
            return f"connected to the server at {endpoint}, which sees us at {observed}"
        case core.ServerLost(reason=reason):
            return f"no connection to the server ({reason}); trying on"
        case core.RelayRefused(reason=reason, fix=fix):
            return f"{reason}: {fix}"
        case core.TransportChanged(before=before, after=after, cause=cause):
            return f"the server is reached over {after} now, before over {before} ({cause})"
        case core.MappingMoved(before=before, after=after):
            return f"our NAT mapping moved from {before} to {after}"
        case core.PortMapped(protocol=protocol, external=external, is_reachable=True):
            return f"the router forwards {external} to us ({protocol})"
        case core.PortMapped(protocol=protocol, external=external):
            return (
                f"the router forwards {external} to us ({protocol}), but that is a private "
                "address: there is another NAT before it"
            )
        case core.PortMappingLost(external=external, reason=reason):
            return f"the router no longer forwards {external} to us ({reason})"
        case core.PeerIntroduced(peer=peer):
            return f"{peer} is a member of the network"
        case core.AddressContested(address=address, holder=holder, other=other):
            return (
                f"{holder} and {other} both have {address} by their certificates: it belongs to "
                f"{holder}, whose is older; let {other} join again by a new invitation"
            )
        case core.PeerGone(peer=peer, reason=reason):
            return f"{peer} is gone: {reason}"
        case core.MemberRevoked(is_own=True, successor=successor) if successor:
            return (
                "this machine's key has been replaced by another, which is the member now, and it "
                "is silent from now on. If that was not you by `punchtun rotate-key`, somebody has "
                f"a copy of its key: on a machine that may invite, `punchtun revoke -- {successor}`"
            )
        case core.MemberRevoked(is_own=True):
            return (
                "this machine has been revoked: it is no longer a member of its network, and is "
                "silent from now on. To come back it needs a new invitation: stop it, and "
                "`punchtun up 'punchtun-join:…'`"
            )
        case core.MemberRevoked(peer=peer, key=key, successor=successor) if successor:
            return f"{peer or key} has a new key, and the one it had is void"
        case core.MemberRevoked(peer=peer, key=key):
            return f"{peer or key} has been revoked: it is no longer a member of the network"
        case core.RotationAsked(peer=peer):
            return f"{peer} asks for a new key"
        case core.KeyReplaced(inviter=inviter, key=""):
            return (
                f"{inviter} refuses a new key: another one has taken the place of this machine's "
                "before. Somebody has a copy of its key: on a machine that may invite, `punchtun "
                "revoke` this one, and invite it again"
            )
        case core.KeyReplaced(inviter=inviter, key=key):
            return (
                f"{inviter} has certified the new key {key}, which is used from the next start on"
            )
        case core.SessionEstablished(peer=peer):
            return f"{peer}: keys agreed"
        case core.PathChanged(peer=peer, before=before, after=after, cause=cause):
            return f"{peer}: now by {after}, before by {before} ({cause})"
        case core.PathDoubted(peer=peer, path=path):
            return f"{peer}: {path} does not answer; sending by the relay as well and punching"
        case core.PathRepaired(peer, _, after, seconds, lost, duplicates):
            took = f"repaired after {seconds * 1000:.0f} ms"
            return f"{peer}: {took}, now by {after} ({lost} lost, {duplicates} duplicates dropped)"
        case core.PathMeasured(peer=peer, path=path, mtu=mtu):
            return f"{peer}: {path} carries packets of up to {mtu} bytes whole"
        case core.InvitationRedeemed(name=name):
            return f"{name} redeems its invitation" if name else "an invitation was asked for again"
        case core.RebindWanted():
            return "punching keeps failing from this UDP port: taking another"
        case core.PingAnswered(peer=peer, seconds=seconds, way=way):
            return f"{peer} answered via {way} in {seconds * 1000:.1f} ms"
        case core.SocketsReleased(locals=numbers):
            return f"{len(numbers)} UDP ports opened for a while are given up"
        case core.FloodBegan(rate=rate):
            return (
                f"a flood: {rate} datagrams a second and more of strangers; what belongs to no "
                "session of ours is looked at now and then until it ends"
            )
        case core.FloodEnded(seconds=seconds, datagrams=datagrams):
            return f"the flood is over after {seconds:.0f} s and some {datagrams} datagrams"
        case core.PeersChanged():
            return "what is known of the peers has changed"


def narrate_status(is_connected: bool, peer_states: Iterable[str]) -> str:
    """How the node is doing, in a line for `systemctl status`."""
    server = "connected to the server" if is_connected else "the server does not answer"
    counts = Counter(peer_states)
    if not counts:
        return f"{server}; no peers"
    ways = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    return f"{server}; peers: {ways}"
