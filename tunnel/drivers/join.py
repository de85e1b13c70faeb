"""Redeeming an invitation over a real socket."""

from __future__ import annotations

import logging
from collections.abc import Callable

import gevent
from gevent.event import Event

from tunnel.core.join import Joiner
from tunnel.core.membership import NetworkIdentity
from tunnel.drivers import clock
from tunnel.drivers.loop import MachineLoop
from tunnel.drivers.resolve import resolve
from tunnel.drivers.streams import Streams
from tunnel.drivers.udp import UdpSocket
from tunnel.errors import OperatorError
from tunnel.noise.keys import PrivateKey
from tunnel.wire.certificate import Certificate
from tunnel.wire.invitation import Admission, JoinStatus, JoinString

log = logging.getLogger(__name__)

ASK_AGAIN = "ask for a new one (`punchtun invite NAME` there)"
REFUSALS = {
    JoinStatus.UNKNOWN: f"the inviting machine does not know this invitation: {ASK_AGAIN}",
    JoinStatus.EXPIRED: f"this invitation has expired: {ASK_AGAIN}",
    JoinStatus.USED: f"this invitation has been used already: {ASK_AGAIN}",
    JoinStatus.NAME: "--name: another machine is called so, or the invitation is for one name, and "
    "that is another. Leave it out, or choose another name; the invitation is not used up by this",
}
RESOLVE_AGAIN = 5.0


def join_network(
    join: JoinString,
    static: PrivateKey,
    tell: Callable[[str], None],
    stopped: Event,
    name: str | None = None,
) -> tuple[NetworkIdentity, Certificate, Admission] | None:
    """Redeem `join`, for as long as it takes. None when `stopped` is set meanwhile.

    `name` is what to be called, if the invitation leaves a choice. `tell` is given a sentence
    whenever there is something new to say. Raises OperatorError when the inviter refuses.
    """
    now = clock.now()
    joiner = Joiner(
        join,
        static,
        now=now,
        random_bytes=clock.random_bytes,
        wall_clock=clock.wall_clock,
        name=name or "",
    )
    socket = UdpSocket(None, 0)
    changed = Event()
    told: list[str] = []

    def report() -> None:
        if joiner.obstacle and joiner.obstacle not in told:
            told.append(joiner.obstacle)
            tell(f"{joiner.obstacle}; trying on")
        if joiner.is_done:
            changed.set()

    loop = MachineLoop(joiner, [socket], after_settling=report)
    streams = Streams(loop)
    loop.start()

    def locate() -> None:
        has_complained = False
        while True:
            endpoints = resolve(join.server.host, join.server.port, allow_ipv6=socket.is_ipv6)
            if endpoints or not has_complained:
                # Without endpoints too: a proxy may know more names than we do.
                now = clock.now()
                joiner.set_server_endpoints(endpoints, now)
                loop.settle(now)
            if endpoints:
                return
            if not has_complained:
                tell(f"{join.server.host} does not resolve; trying on")
                has_complained = True
            gevent.sleep(RESOLVE_AGAIN)

    locating = gevent.spawn(locate)
    try:
        gevent.wait([changed, stopped], count=1)
        # The acknowledgement of the answer is sent by now: settling comes before reporting.
    finally:
        locating.kill()
        streams.close()
        loop.close()
        socket.close()
    if joiner.refusal is not None:
        raise OperatorError(REFUSALS[joiner.refusal])
    return joiner.admission
