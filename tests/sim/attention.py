"""What every simulated node is asked after every input: has anybody been forgotten?

A node looks only at the peers that something was done to (``core/attention.py``). Whoever reaches
into one and does not touch it leaves what it wants undone until chance touches it, or has the node
sleep past its timer; both show here.
"""

from __future__ import annotations

from collections.abc import Iterator

from tunnel.core.machine import earliest
from tunnel.core.node import Node
from tunnel.core.peer import Peer


def check_attention(machine: object) -> None:
    """After every input. Fails for a peer that nobody touched, and which still wants something, or
    wants to be woken at another time than it will be."""
    if not isinstance(machine, Node):
        return
    attention = machine.peers.attention
    for peer in machine.peers:
        if peer in attention._touched:  # By a test, or by the configuration: the next input looks.
            continue
        assert not [*wanted(peer)], f"{peer.name} was not touched"
        planned = attention._planned.get(peer)
        assert (planned and planned[0]) == peer.get_timer(), f"{peer.name} was not touched"
    if not attention._touched:
        assert attention.get_timer() == earliest(peer.get_timer() for peer in machine.peers)


def wanted(peer: Peer) -> Iterator[str]:
    """What it wants done or told now."""
    traversal, wishes = peer.traversal, peer.traversal.wishes
    if traversal.checks._queue:
        yield "checks"
    if peer.session._outbox:
        yield "handshake"
    if traversal.asking._answers:
        yield "answers"
    if traversal._changes:
        yield "changes"
    if wishes.was_moved or wishes.wants_witness or wishes.wants_introduction:
        yield "wishes"
    if wishes.resend_since is not None:
        yield "to be sent again"
    path = traversal.in_use
    limit = path.mtu.limit if path is not None and path.mtu.is_settled else None
    if limit not in (None, peer.mtu._told):
        yield "size"
