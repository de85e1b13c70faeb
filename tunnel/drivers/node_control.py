"""What the running node answers on its control socket.

====================  ===========================================  ==============================
command               fields                                       answers
====================  ===========================================  ==============================
status                                                             one: status
ping                  peer, count, interval, timeout               one an echo
wait                  peer or null, direct, timeout                one: state, exit_code
events                peer or null, follow                         one an event
invite                name, ip or null, expires, uses              one: join, name, uses, expires
revoke                name                                         one: name, public_key, told
rotate                timeout                                      one: public_key
drill                 timeout                                      one: port, peers
doctor                peer                                         one: peer, evidence
down                                                               one: stopping
====================  ===========================================  ==============================
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import gevent

from tunnel.drivers import clock
from tunnel.errors import OperatorError, PeerUnavailable, UsageError

if TYPE_CHECKING:
    from tunnel.drivers.node import NodeDriver

Body = dict[str, Any]

POLL = 0.25
"""Seconds between looks at what has no event of its own."""


class NodeControl:
    def __init__(self, driver: NodeDriver) -> None:
        self._driver = driver

    def answer(self, request: Body) -> Body | Iterator[Body]:
        """Raises OperatorError for what cannot be done."""
        command = request.get("command")
        if command == "status":
            return self._driver.status()
        if command == "ping":
            return self._ping(request)
        if command == "wait":
            return self._wait(request)
        if command == "events":
            return self._events(request)
        if command == "invite":
            return self._invite(request)
        if command == "revoke":
            return self._revoke(request)
        if command == "rotate":
            return {"public_key": self._driver.rotate_key(float(request.get("timeout") or 10))}
        if command == "drill":
            return self._drill(request)
        if command == "doctor":
            return self._explain(request)
        if command == "down":
            self._driver.stopped.set()
            return {"stopping": True}
        raise UsageError(f"unknown command {command!r}: the running node is of another version")

    def _require_peer(self, name: Any) -> str:
        peer = self._driver.node.find_peer(str(name))
        if peer is None:
            known = ", ".join(sorted(p.name for p in self._driver.node.peers)) or "nobody"
            raise PeerUnavailable(f"no peer is called {name}; known here: {known}")
        return peer.name

    def _state(self, name: str) -> str:
        peer = self._driver.node.find_peer(name)
        return "offline" if peer is None else peer.state(clock.now())

    def _ping(self, request: Body) -> Iterator[Body]:
        name = self._require_peer(request.get("peer"))
        count = int(request.get("count") or 0)
        interval = float(request.get("interval") or 1.0)
        timeout = float(request.get("timeout") or 2.0)
        ping = partial(self._driver.node.ping, name)
        sequence = 0
        while count == 0 or sequence < count:
            sequence += 1
            began = clock.now()
            transaction = self._driver.command(ping)
            answer = None
            while answer is None and (left := began + timeout - clock.now()) > 0:
                if transaction is None:
                    # No keys or no way yet: the attempt has woken the pair, try again shortly.
                    gevent.sleep(min(left, 0.05))
                    transaction = self._driver.command(ping)
                    continue
                answer = self._driver.answers.pop(transaction, None)
                if answer is None:
                    self._driver.wait_for_change(left)
            yield {
                "sequence": sequence,
                "peer": name,
                "rtt_ms": None if answer is None else round(answer.seconds * 1000, 3),
                "way": None if answer is None else answer.way,
                "state": self._state(name),
            }
            if count == 0 or sequence < count:
                gevent.sleep(max(0.0, began + interval - clock.now()))

    def _wait(self, request: Body) -> Body:
        deadline = clock.now() + float(request.get("timeout") or 60.0)
        name, must_be_direct = request.get("peer"), bool(request.get("direct"))
        while True:
            state, exit_code = self._judge(name, must_be_direct)
            left = deadline - clock.now()
            if exit_code == 0 or left <= 0:
                return {"state": state, "exit_code": exit_code}
            self._driver.wait_for_change(min(left, POLL))

    def _judge(self, name: str | None, must_be_direct: bool) -> tuple[str, int]:
        """The state asked for, and the exit code if time were up now."""
        if name is None:
            if not must_be_direct:
                is_connected = self._driver.node.registration.is_connected
                return ("connected", 0) if is_connected else ("unreachable", 5)
            states = [peer.state(clock.now()) for peer in self._driver.node.peers]
            if "direct" in states:
                return "direct", 0
            return ("relayed", 3) if "relayed" in states else ("offline", 4)
        state = self._state(name)
        if state == "direct" or (state == "relayed" and not must_be_direct):
            return state, 0
        return state, 3 if state == "relayed" else 4

    def _drill(self, request: Body) -> Body:
        """Drop our own mapping on purpose, and tell how each direct pair came through."""
        node = self._driver.node
        direct = [peer for peer in node.peers if peer.state(clock.now()) == "direct"]
        if not direct:
            raise OperatorError("no peer is direct: there is nothing to drill")
        seen = {peer.name: len(peer.outages) for peer in direct}
        began = clock.now()
        port = self._driver.rebind()
        deadline = began + float(request.get("timeout") or 15.0)
        recovered: dict[str, Body] = {}
        while len(recovered) < len(direct) and (left := deadline - clock.now()) > 0:
            for peer in direct:
                fresh = list(peer.outages)[seen[peer.name] :]
                best = peer.traversal.best
                if peer.name not in recovered and best and (best.proof_sent_at or 0.0) > began:
                    recovered[peer.name] = {
                        "recovered_ms": round(((best.proven_at or began) - began) * 1000, 1),
                        "events": [{k: v for k, v in o.items() if k != "at"} for o in fresh],
                    }
            self._driver.wait_for_change(min(left, 0.01))
        peers = [
            {"name": peer.name, "state": peer.state(clock.now())}
            | recovered.get(peer.name, {"recovered_ms": None, "events": []})
            for peer in direct
        ]
        return {"port": port, "peers": peers}

    def _explain(self, request: Body) -> Body:
        """The peer as in status, and the evidence sentence by sentence."""
        name = self._require_peer(request.get("peer"))
        peer = self._driver.node.find_peer(name)
        assert peer is not None
        diagnosis = self._driver.node.diagnose(peer, clock.now())
        status = self._driver.status()
        return {
            "peer": next(entry for entry in status["peers"] if entry["name"] == name),
            "evidence": [] if diagnosis is None else list(diagnosis.evidence),
        }

    def _events(self, request: Body) -> Iterator[Body]:
        peer = request.get("peer")
        if peer is not None:
            peer = self._require_peer(peer)
        told: Body | None = None
        while True:
            history = list(self._driver.history)
            # By identity: the ring may have dropped entries since the last look.
            start = next((i + 1 for i, entry in enumerate(history) if entry is told), 0)
            for entry in history[start:]:
                if peer is None or entry.get("peer") == peer:
                    yield entry
            told = history[-1] if history else told
            if not request.get("follow"):
                return
            self._driver.wait_for_change(None)

    def _invite(self, request: Body) -> Body:
        node = self._driver.node
        if node.inviter.ledger is None:
            raise OperatorError(
                "this machine holds no signing key, so it may not invite: run this command on the "
                "one that created the network, or make this one an inviter with "
                "`punchtun network import`"
            )
        address = request.get("ip")
        try:
            chosen = ipaddress.IPv4Address(address) if address else None
        except ValueError as error:
            raise UsageError(f"--ip {address}: this is no IPv4 address") from error
        expires = float(request.get("expires") or 24 * 3600)
        name, uses = str(request.get("name")), int(request.get("uses") or 1)
        join = node.inviter.invite(name, chosen, expires, uses)
        made = node.inviter.ledger.invitations[-1]
        # Shown only when it is safe on disk: a join string must not outlive its memory here.
        self._driver.save_ledger()
        return {"join": join.text, "name": name, "uses": uses, "expires": made.expires}

    def _revoke(self, request: Body) -> Body:
        name, inviter = str(request.get("name")), self._driver.node.inviter
        if inviter.ledger is None:
            raise OperatorError(
                "this machine holds no signing key, so it may not revoke: run this command on the "
                "one that created the network, or on another that may invite"
            )
        # A member too may be called as an invitation for several machines is.
        if inviter.withdraw(name) and not inviter.ledger.has_member(name):
            self._driver.save_ledger()
            return {"name": name, "public_key": None, "told": []}
        key, told = self._driver.revoke(name)
        return {"name": name, "public_key": key, "told": told}
