"""The numbers in docs/protocol are those of the code: phrases made from it stand in the pages."""

from __future__ import annotations

import re

import pytest

from tests.protocol.document import DOCS
from tunnel import constants
from tunnel.constants import MAX_UNANSWERED_CHECKS, REKEY_AFTER_TIME, REKEY_ATTEMPT_TIME
from tunnel.core import (
    disclosure,
    introductions,
    join,
    ledger,
    lifetime,
    mailbox,
    path,
    peer,
    probe_answers,
    punch_schedule,
    reassembly,
    registrant,
    registration,
    rendezvous,
    server_session,
    session,
    stream_table,
    transport,
    witness,
)
from tunnel.noise import cookie, keypair, passphrase, replay
from tunnel.wire import backup, candidate, fragment, invitation, train
from tunnel.wire import rendezvous as messages


def show(*seconds: float) -> str:
    return ", ".join(f"{number:g}" for number in seconds)


def grouped(number: int) -> str:
    return f"{number:,}"


FIRST, LAST = session.RETRANSMIT[:-1], session.RETRANSMIT[-1]
SERVER_REKEY, SERVER_REJECT = (
    server_session.SERVER_TIMES.rekey_after,
    server_session.SERVER_TIMES.reject_after,
)
PEER_RENEWAL = session.PEER_TIMES.renew_after or 0.0

WORDS = {3: "three"}

PHRASES = {
    "handshake": [
        f"sent again after {show(*FIRST)} and then every {LAST:g} s",
        f"{session.JITTER:g} s × delay / {LAST:g} more",
        f"until {REKEY_ATTEMPT_TIME:g} s have passed",
        f"| initiations valid at a time | {session.MAX_INITIATIONS} |",
        f"| initiations of one key | one per {session.INITIATION_SPACING * 1000:g} ms |",
        f"| cookie, its secret | {cookie.COOKIE_REFRESH_TIME:g} s |",
        f"keys are {REKEY_AFTER_TIME:g} s old (node ↔ server: {SERVER_REKEY:g} s)",
        (
            f"{PEER_RENEWAL:g} s old, by the responder at "
            f"{PEER_RENEWAL + session.RESPONDER_RENEWS_LATER:g} s"
        ),
        f"Keys older than {constants.REJECT_AFTER_TIME:g} s ({SERVER_REJECT:g} s)",
        (
            f"| keys replaced, used, node ↔ server | {SERVER_REKEY:g} s when sending, "
            f"{SERVER_REJECT:g} s |"
        ),
        f"nothing has come {peer.FALLBACK_INITIATE:g} s after",
        f"at most {introductions.MAX_SETTLE:g} s)",
        f"hears nothing by any way for {peer.HANDSHAKE_AFTER_SILENCE:g} s",
        f"of those that wait as next {WORDS[keypair.MAX_WAITING]} more",
    ],
    "frames": [
        f"| window | {replay.WINDOW} counters |",
        f"| fragments of a packet | {fragment.MAX_FRAGMENTS} |",
        f"| packets put together at a time | {reassembly.MAX_INCOMPLETE} of a peer |",
        f"of {grouped(reassembly.MAX_PACKET)} bytes at most",
        f"| given up after | {reassembly.FORGET_AFTER:g} s |",
        f"| segments of a train | {train.MAX_SEGMENTS} |",
        f"| MTU of the interface | {constants.TUNNEL_MTU}: ",
    ],
    "checks": [
        f"at most {MAX_UNANSWERED_CHECKS} checks per punch and second",
        f"runs of {peer.LEAST_MISSING} to {peer.MOST_MISSING}",
        f"(of the last {peer.MAX_RECENT})",
        f"{witness.ANSWER_RATE:g} a second of both together, burst {witness.ANSWER_BURST:g}",
        f"frames, {disclosure.LOOK_AFTER:g} s after there are keys",
        f"at most every {disclosure.SPACING:g} s when something has changed",
        (
            "again "
            + show(*(disclosure.REPEAT_AFTER * 2**n for n in range(disclosure.MAX_ASKS - 1)))
        ),
        (
            f"| keep-alive | {constants.KEEPALIVE_INTERVAL:g} s, or {lifetime.SAFETY:g} × the "
            f"measured lifetime, {lifetime.KEEPALIVE_FLOOR:g} to {lifetime.KEEPALIVE_CEILING:g} s |"
        ),
        f"| echoes while there is traffic | every {path.ECHO_INTERVAL:g} s",
        (
            f"max({path.LATE_FLOOR * 1000:g} ms, {path.LATE_RTTS:g} × round trip), "
            f"max({path.DOUBT_FLOOR * 1000:g} ms, {path.DOUBT_RTTS:g} × round trip)"
        ),
        f"| rounds of a punch | {show(*punch_schedule.PUNCH_ROUNDS)} s |",
        f"repeated after | {show(*punch_schedule.RETRY_DELAYS)}, ",
    ],
    "rendezvous": [
        f"have at most {messages.MAX_SEALED} bytes",
        (
            f"repeats it {show(*registrant.NOTICE_RETRY[:4])} and {registrant.NOTICE_RETRY[4]:g} s "
            f"after the last time until it is, and gives up {registrant.NOTICE_RETRY[5]:g} s"
        ),
        f"{registrant.WINDOW} are under way to a node at once, {registrant.MAX_NOTICES} are kept",
        f"max({registration.FIRST_RETRY:g} s, 3 × rtt) × 1.5^n",
        f"the first wait is at most {registration.MAX_RETRY:g} s",
        (
            f"after {show(*registration.RECONNECT_DELAYS[:-1])} and then every "
            f"{registration.RECONNECT_DELAYS[-1]:g} s"
        ),
        (
            f"({rendezvous.LIFETIME:g} s) of silence, a session that never registered after "
            f"{rendezvous.UNREGISTERED_LIFETIME:g} s"
        ),
        f"at most {grouped(int(probe_answers.MAX_PROBE_DELAY * 1000))}) is not 0",
        f"{probe_answers.MAX_PROBES} late answers may be outstanding",
        (
            f"*echo* after {', '.join(f'{delay:g}' for delay in mailbox.REMINDERS[:-1])} s, and "
            f"then every {mailbox.REMINDERS[-1]:g} s"
        ),
        f"and {mailbox.LETTER_LIFETIME / 86400:g} days after its last request",
        f"within the last {mailbox.KNOWN_FOR / 86400:g} days",
        (
            f"At most {mailbox.MAX_PER_INVITER} letters for one inviter, {mailbox.MAX_PER_SOURCE} "
            "from one IPv4 address or IPv6 /48"
        ),
    ],
    "membership": [
        f"At most {candidate.MAX_CANDIDATES} candidates",
        f"port is {invitation.DEFAULT_PORT} where",
        (
            f"repeats its request after {show(*join.RETRY[:-1])} and then every "
            f"{join.RETRY[-1]:g} s, every "
            f"{join.KEPT_RETRY:g} s once it is *kept*"
        ),
        f"good for {ledger.DEFAULT_EXPIRY / 3600:g} h",
        (
            f"Written are {passphrase.PASSES} passes over {grouped(passphrase.MEMORY)} KiB; "
            f"read are 1 to {backup.MAX_PASSES} passes over "
            f"{backup.MIN_MEMORY} to {grouped(backup.MAX_MEMORY)}"
        ),
    ],
    "streams": [
        (
            f"over UDP, {show(*transport.ASK_DELAYS[:-1])} and then every "
            f"{transport.ASK_DELAYS[-1]:g} s"
        ),
        f"{transport.ASK_SPACING:g} s apart at least",
        f"back on the stream after {transport.RETURN_PATIENCE:g} s",
        f"echoes every {registration.STREAM_KEEPALIVE:g} s on a stream",
        (
            f"without an authentic frame after {stream_table.HANDSHAKE_TIME:g} s, "
            f"and one that has been silent for {stream_table.IDLE_TIME:g} s"
        ),
        f"opens streams {transport.UDP_PATIENCE:g} s after",
        f"then {transport.STAGGER:g} s later each WebSocket",
        f"completed handshake is closed after {transport.CANDIDATE_PATIENCE:g} s",
        (
            f"repeated after {show(*transport.ROUND_DELAYS[:-1])} and then every "
            f"{transport.ROUND_DELAYS[-1]:g} s"
        ),
    ],
}


@pytest.mark.parametrize(
    ("page", "phrase"),
    [(page, phrase) for page, phrases in PHRASES.items() for phrase in phrases],
)
def test_the_page_says_what_the_code_does(page: str, phrase: str) -> None:
    text = (DOCS / "protocol" / f"{page}.md").read_text(encoding="utf-8")
    assert phrase in re.sub(r"\s+", " ", text)
