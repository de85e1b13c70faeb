"""From options and state files to a running node or server. Nothing is half-created: what may fail
for want of privileges comes first, and files are written when everything else has succeeded."""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import signal
import socket as system_socket
import sys
from collections.abc import Collection, Iterable, Sequence
from functools import partial

import gevent
from gevent.event import Event

import tunnel
from tunnel.config import (
    RelayOptions,
    UpOptions,
    read_join_string,
    read_server_url,
    read_tunnel_address,
    read_web_listen,
    up_faults,
)
from tunnel.constants import TUNNEL_MTU
from tunnel.core.configuration import NodeConfig, ServerConfig
from tunnel.core.ledger import InvitationLedger
from tunnel.core.membership import (
    NetworkIdentity,
    choose_ipv4_network,
    found_network,
    invitation_id,
)
from tunnel.core.revocations import Revocations, recall_revocations
from tunnel.dataplane.limits import gso_max_size
from tunnel.drivers import clock
from tunnel.drivers.arguments import hide_arguments
from tunnel.drivers.files import StateDirectory
from tunnel.drivers.join import join_network
from tunnel.drivers.landlock import write_only_below
from tunnel.drivers.log import tell
from tunnel.drivers.member_names import open_hosts
from tunnel.drivers.network import configure_interface, find_clash
from tunnel.drivers.node import NodeDriver
from tunnel.drivers.offloads import Offloads
from tunnel.drivers.places import Places
from tunnel.drivers.privileges import CAP_NET_ADMIN, drop_privileges, stay_out_of_dumps
from tunnel.drivers.server import (
    ServerDriver,
    describe_listeners,
    open_listeners,
    open_stream_sockets,
)
from tunnel.drivers.stream_listener import TlsFiles
from tunnel.drivers.tun import TunDevice
from tunnel.drivers.udp import UdpSocket
from tunnel.drivers.web_serving import open_metrics, open_page, serving_metrics, serving_page
from tunnel.errors import AuthenticationFailed, OperatorError, RevokedError, UsageError
from tunnel.noise.frame_cipher import AEGIS_128L, CHACHA20_POLY1305, FrameCipher
from tunnel.noise.keys import PrivateKey, SigningKey
from tunnel.noise.sodium import has_aes
from tunnel.state import (
    LEDGER_FILE,
    NODE_FILE,
    PEERS_FILE,
    RELAY_FILE,
    REVOCATIONS_FILE,
    SERVER_FILE,
    NodeState,
    ServerState,
    pack_ledger,
    pack_node_state,
    pack_revocations,
    pack_server_state,
    parse_announced,
    parse_ledger,
    parse_node_state,
    parse_peers,
    parse_relay_use,
    parse_revocations,
    parse_server_state,
)
from tunnel.wire.certificate import Certificate, is_valid_name
from tunnel.wire.invitation import ServerUrl, encode_base64

log = logging.getLogger(__name__)


def run_node(options: UpOptions, places: Places) -> None:
    """``punchtun up``. Raises OperatorError."""
    stay_out_of_dumps()
    hide_arguments()
    # What was mistyped is told without privileges, too.
    if faults := up_faults(options):
        raise faults[0]
    metrics_at = None if options.metrics is None else read_web_listen(options.metrics)
    stopped = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stopped.set)
    offloads = Offloads(
        tun=options.tun_offload is not False,
        uso=options.uso is not False,
        gso=options.gso is not False,
        gro=options.gro is not False,
    )
    tun = TunDevice(options.interface, offload=offloads.tun, uso=offloads.uso)
    try:
        directory = StateDirectory(places.state)
        directory.lock()
        # Before anything is written: the port may be in use.
        remembered = directory.read_json(PEERS_FILE) or {}
        socket = _open_socket(options.listen_port, remembered.get("listen_port"), offloads)
        metrics = open_metrics(metrics_at)
        _make_run_directory(places)
        hosts = open_hosts(places.state, tun.name, is_wanted=options.hosts is not False)
        # Before joining, since a name that is looked up begins a thread. The capability is for the
        # interface's addresses, and the receive buffers of sockets opened later.
        settings = f"/proc/sys/net/ipv6/conf/{tun.name}"
        _confine(places, {CAP_NET_ADMIN}, writes=[settings])
        prepared = _prepare_membership(options, directory, tun, stopped)
        if prepared is None:
            return
        state, ledger = prepared
        assert state.identity
        assert state.certificate
        _refuse_clash(state.certificate, tun)
        mtu = options.mtu or TUNNEL_MTU
        configure_interface(
            tun.name,
            [str(i) for i in state.certificate.addresses],
            mtu,
            gso_max_size=gso_max_size(mtu) if tun.has_header else None,
        )
        config = NodeConfig(
            static=state.static,
            identity=state.identity,
            certificate=state.certificate,
            server=state.server,
            known_peers=parse_peers(directory.read_json(PEERS_FILE)),
            revocations=_known_revocations(state, directory),
            next_static=None if ledger is not None else state.next_static,
            announced=parse_announced(directory.read_json(REVOCATIONS_FILE)),
            mtu=mtu,
            may_rebind=options.listen_port is None,
            may_guess=options.port_guessing is not False,
            may_use_aegis=options.aegis is not False and has_aes(),
            port_mapping=options.port_mapping is not False,
            version=tunnel.__version__,
        )
        warn_of_slow_ciphers((AEGIS_128L, CHACHA20_POLY1305))
        driver = NodeDriver(config, ledger, directory, tun, socket, places.control, offloads, hosts)
        greeting = f"{state.certificate.name} is {state.certificate.addresses[0].ip}"
        with serving_metrics(metrics, driver):
            driver.run(stopped, lambda: _greet(f"{greeting} on interface {tun.name}"))
    finally:
        tun.close()


def warn_of_slow_ciphers(ciphers: Sequence[FrameCipher]) -> None:
    """PyNaCl is another one than expected: all works, at a fraction of the speed."""
    for cipher in ciphers:
        if cipher.direct is None:
            log.warning("%s takes the slow way: %s", cipher.name, cipher.why_not_direct)


def _greet(sentence: str) -> None:
    tell(sentence)
    if sys.stderr.isatty():
        tell("it stays in the foreground; ask `punchtun status` in another terminal, as root")


def run_server(
    addresses: list[tuple[str | None, int]] | None,
    *,
    relay: RelayOptions,
    places: Places,
    tcp: list[tuple[str | None, int]] | None = None,
    http: Sequence[tuple[str | None, int]] = (),
    tls: tuple[str, str] | None = None,
    metrics: tuple[str | None, int] | None = None,
    web: tuple[str | None, int] | None = None,
) -> None:
    """``punchtun server run``; `tcp` None: on the numbers of the UDP ports, those that are free.
    Raises OperatorError."""
    stay_out_of_dumps()
    tls_files = TlsFiles(*tls) if tls is not None else None
    directory = StateDirectory(places.state)
    directory.lock()
    state = load_server_state(directory)
    addresses = addresses or [(None, state.port)]
    sockets = open_listeners(addresses)
    first = [(host, udp.port) for (host, _), udp in zip(addresses, sockets[::2], strict=True)]
    stream_sockets = open_stream_sockets(tcp, http, tls_files, first)
    metrics_socket = open_metrics(metrics)
    page = open_page(web, directory, tls_files)
    if sockets[0].port != state.port:
        state.port = sockets[0].port
        directory.write_json(SERVER_FILE, pack_server_state(state))
    config = ServerConfig(
        static=state.static,
        access_token=state.access_token,
        relay=relay.is_on,
        relay_rate=relay.rate,
        relay_quota=relay.quota,
        relay_pairs=relay.pairs or ServerConfig.relay_pairs,
        relay_use=parse_relay_use(directory.read_json(RELAY_FILE)) if relay.quota else None,
        alternate_port=sockets[1].port,
        listeners=describe_listeners(addresses, sockets),
    )
    _make_run_directory(places)
    _confine(places, (), reads=tls or ())
    driver = ServerDriver(config, sockets, places.control, stream_sockets, directory)
    with serving_metrics(metrics_socket, driver), serving_page(page, driver):
        driver.run()


def load_server_state(directory: StateDirectory) -> ServerState:
    """The server's key and token, made now if there are none."""
    content = directory.read_json(SERVER_FILE)
    if content is not None:
        return parse_server_state(content)
    state = ServerState(PrivateKey.generate(clock.random_bytes), clock.random_bytes(16))
    directory.write_json(SERVER_FILE, pack_server_state(state))
    return state


def _prepare_membership(
    options: UpOptions, directory: StateDirectory, tun: TunDevice, stopped: Event
) -> tuple[NodeState, InvitationLedger | None] | None:
    """Found, join, or remember. None: stopped while joining."""
    content = directory.read_json(NODE_FILE)
    state = parse_node_state(content) if content is not None else None
    if state is not None and is_revoked(state, directory):
        _refuse_revoked(options, state)
        tell("this machine has been revoked before: it joins with a new key")
        state = None
    if options.join is not None:
        return _join(options, state, directory, stopped)
    if state is None or state.certificate is None:
        if options.server is None:
            raise UsageError(
                "this machine is in no network yet: create one with "
                "`punchtun up --server URL`, or join one with `punchtun up 'punchtun-join:…'`"
            )
        return _found(options, read_server_url(options.server), directory, tun)
    _check_certificate(state)
    _refuse_other_identity(options, state.certificate)
    if options.server is not None:
        server = read_server_url(options.server)
        if server != state.server:
            state.server = server
            directory.write_json(NODE_FILE, pack_node_state(state))
            tell(f"the server is now {server.location}")
    return state, read_ledger(state, directory)


def read_ledger(state: NodeState, directory: StateDirectory) -> InvitationLedger | None:
    """None if this node may not invite. Raises OperatorError."""
    if state.signing_key is None:
        return None
    saved = directory.read_json(LEDGER_FILE)
    if saved is None:
        raise OperatorError(
            f"{LEDGER_FILE} is missing from {directory.path}: restore it from a backup; "
            "without it addresses and names could be given twice"
        )
    return parse_ledger(saved, state)


def _found(
    options: UpOptions, server: ServerUrl, directory: StateDirectory, tun: TunDevice
) -> tuple[NodeState, InvitationLedger]:
    signing_key = SigningKey.generate(clock.random_bytes)
    if options.ip is None:
        prefix = choose_ipv4_network(
            signing_key.verify_key, lambda net: find_clash(str(net), [tun.name]) is not None
        )
        address = ipaddress.IPv4Interface((prefix.network_address + 1, prefix.prefixlen))
    else:
        address = read_tunnel_address(options.ip)
    static = PrivateKey.generate(clock.random_bytes)
    identity, certificate = found_network(
        signing_key=signing_key,
        secret=clock.random_bytes(32),
        static=static,
        name=options.name or host_name(),
        address=address,
        wall_time=clock.wall_clock(),
    )
    _refuse_clash(certificate, tun)
    state = NodeState(static, server, identity, certificate, signing_key)
    ledger = InvitationLedger(identity, signing_key, static, [certificate])
    # The ledger first: with node.json there, its absence would be an error.
    directory.write_json(LEDGER_FILE, pack_ledger(ledger))
    directory.write_json(NODE_FILE, pack_node_state(state))
    tell(
        f"created network {identity.id} ({address.network}); `punchtun invite NAME` lets others in"
    )
    return state, ledger


def _join(
    options: UpOptions, state: NodeState | None, directory: StateDirectory, stopped: Event
) -> tuple[NodeState, InvitationLedger | None] | None:
    assert options.join is not None
    join = read_join_string(options.join)
    invitation = invitation_id(join.token).hex()
    if state is not None and state.certificate is not None:
        if state.joined_by == invitation:
            _check_certificate(state)
            # The same command again, after a reboot: a plain `up`.
            return state, read_ledger(state, directory)
        raise OperatorError(
            f"this machine is in a network already, as {state.certificate.name}: "
            f"run plain `punchtun up`, or give the new network another --state-dir"
        )
    if state is None or state.joined_by != invitation:
        # The key is saved before it is certified: if we are killed in between, the same key asks
        # again and is given the same answer, although the invitation is used up.
        state = NodeState(
            PrivateKey.generate(clock.random_bytes), join.server, joined_by=invitation
        )
        directory.write_json(NODE_FILE, pack_node_state(state))
    tell(f"joining through {join.server.location}")
    joined = join_network(join, state.static, tell, stopped, options.name)
    if joined is None:
        tell("stopped before there was an answer: the same command goes on from here later")
        return None
    state.identity, state.certificate, admission = joined
    _refuse_other_identity(options, state.certificate)
    inviter = {"certificate": encode_base64(admission.inviter_certificate), "endpoints": []}
    directory.write_json(PEERS_FILE, {"peers": [inviter]})
    if admission.revoked:
        # Before anybody is met. What is known of an earlier membership stays.
        known = read_revocations(state.identity, directory)
        content = pack_revocations(known, admission.revoked)
        directory.write_json(REVOCATIONS_FILE, content)
    directory.write_json(NODE_FILE, pack_node_state(state))
    tell(f"joined network {state.identity.id} as {state.certificate.name}")
    return state, None


def is_revoked(state: NodeState, directory: StateDirectory) -> bool:
    """Whether a revocation that was kept is of this node. Raises OperatorError: it is damaged."""
    if state.identity is None:
        return False
    return state.static.public_key.data in read_revocations(state.identity, directory)


def _known_revocations(state: NodeState, directory: StateDirectory) -> tuple[bytes, ...]:
    """That of the key before, if the key has just been replaced, among them: it is for this node to
    tell the others."""
    known = parse_revocations(directory.read_json(REVOCATIONS_FILE))
    return known if state.retired is None else (*known, state.retired.pack())


def read_revocations(identity: NetworkIdentity, directory: StateDirectory) -> Revocations:
    """Those of this network. Raises OperatorError: the file is damaged."""
    content = directory.read_json(REVOCATIONS_FILE)
    revocations = recall_revocations(identity.key, parse_revocations(content))
    revocations.announced.update(parse_announced(content))
    return revocations


def _refuse_revoked(options: UpOptions, state: NodeState) -> None:
    """Unless it comes with another invitation than that of the membership that has ended."""
    if options.join is not None:
        token = read_join_string(options.join).token
        if state.joined_by != invitation_id(token).hex():
            return
    name = "" if state.certificate is None else f" as {state.certificate.name}"
    raise RevokedError(
        f"this machine has been revoked: it was a member of its network{name}, and is none any "
        "more. To come back it needs a new invitation: `punchtun up 'punchtun-join:…'`"
    )


def _check_certificate(state: NodeState) -> None:
    """Others would refuse it in silence."""
    assert state.identity
    assert state.certificate
    try:
        certificate = state.identity.verify(state.certificate.pack(), clock.wall_clock())
    except AuthenticationFailed as error:
        raise OperatorError(
            f"the certificate in {NODE_FILE} is of no use ({error}): restore the file from a "
            "backup, or move it away and join again with a new invitation"
        ) from error
    if certificate.key != state.static.public_key.data:
        raise OperatorError(
            f"{NODE_FILE} is damaged: its certificate is for another key; restore the file from a "
            "backup, or move it away and join again with a new invitation"
        )


def _refuse_other_identity(options: UpOptions, certificate: Certificate) -> None:
    """Name and address are signed by the network: an option cannot change them afterwards."""
    if options.name is not None and options.name != certificate.name:
        raise UsageError(
            f"--name {options.name}: this machine is called {certificate.name} in its network, "
            "and the name is part of its signed certificate; leave the option out"
        )
    if options.ip is not None and read_tunnel_address(options.ip).ip not in (
        interface.ip for interface in certificate.addresses
    ):
        own = ", ".join(str(interface.ip) for interface in certificate.addresses)
        raise UsageError(
            f"--ip {options.ip}: this machine's addresses ({own}) are part of its signed "
            "certificate; leave the option out"
        )


def _refuse_clash(certificate: Certificate, tun: TunDevice) -> None:
    for interface in certificate.addresses:
        clash = find_clash(str(interface.network), [tun.name])
        if clash is not None:
            raise OperatorError(
                f"the tunnel's {interface.network} clashes with the route {clash.prefix} through "
                f"{clash.interface}: remove that route, or create the network with another prefix "
                "(--ip 10.99.0.1/24)"
            )


def _open_socket(asked: int | None, remembered: object, offloads: Offloads) -> UdpSocket:
    """The port asked for; else the one of last time, so that endpoints others remember stay good;
    else a random one."""
    open_on = partial(UdpSocket, None, gso=offloads.gso, gro=offloads.gro)
    if asked is not None:
        return open_on(asked)
    if isinstance(remembered, int) and 1024 <= remembered < 65536:
        try:
            return open_on(remembered)
        except OperatorError:
            log.info("UDP port %d of last time is in use: taking another", remembered)
    return open_on(0)


def _make_run_directory(places: Places) -> None:
    try:
        places.control.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OperatorError(
            f"cannot create {places.control.parent} for the control socket: {error.strerror}"
        ) from error


def _confine(
    places: Places,
    keep: Collection[int],
    *,
    reads: Iterable[str] = (),
    writes: Iterable[str] = (),
) -> None:
    """From now on with these capabilities only. What the running process still reads, itself as it
    imports among it, stays readable; root writes where it keeps things, and below `writes`."""
    program = [each for each in sys.path if each] + [tunnel.__file__]
    own = [places.state, places.control.parent]
    drop_privileges(keep, [*program, *own, *reads])
    if os.geteuid() == 0:  # Any other user owns nothing that matters to others.
        write_only_below([*own, *writes])


def host_name() -> str:
    """What this machine is called unless it is told: its host name, as far as that is valid."""
    name = re.sub(r"[^a-z0-9-]+", "-", system_socket.gethostname().split(".")[0].lower())
    name = name.strip("-")[:63].strip("-")
    return name if is_valid_name(name) else f"node-{os.urandom(2).hex()}"
