"""netlink, each test in a network namespace of its own."""

from __future__ import annotations

import ipaddress
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tunnel.drivers.network import (
    LocalAddress,
    Route,
    add_route,
    configure_interface,
    default_gateway,
    find_clash,
    local_addresses,
    local_network,
    local_routes,
)
from tunnel.drivers.network_watch import NetworkWatch
from tunnel.drivers.tun import TunDevice
from tunnel.errors import OperatorError, UsageError

InNamespace = Callable[[Callable[[], None]], None]

pytestmark = pytest.mark.root


def ip(arguments: str) -> None:
    assert os.system(f"ip {arguments}") == 0


def veth(name: str, *addresses: str) -> None:
    ip(f"link add {name} type veth peer name {name}p")
    ip(f"link set {name}p up")
    ip(f"link set {name} up")
    for address in addresses:
        ip(f"address add {address} dev {name}" + (" nodad" if ":" in address else ""))


def test_configure_interface(in_namespace: InNamespace) -> None:
    def check() -> None:
        TunDevice("pt0").fileno()  # closed again when collected
        tun = TunDevice("pt0")
        given = configure_interface("pt0", ["10.1.2.3/24", "fd00:1::1/64"], 1380)
        assert given == ["10.1.2.3/24", "fd00:1::1/64"]
        assert local_addresses() == [
            LocalAddress("10.1.2.3", 24, "pt0", False, False, "global"),
            LocalAddress("fd00:1::1", 64, "pt0", False, False, "global"),
        ]
        assert " mtu 1380 " in os.popen("ip link show pt0").read()
        assert "fe80" not in os.popen("ip address show pt0").read()
        assert configure_interface("pt0", ["10.1.2.3/24"], 1280) == ["10.1.2.3/24"]
        tun.close()
        assert local_addresses() == []

    in_namespace(check)


def test_where_ipv6_is_off(in_namespace: InNamespace) -> None:
    def check() -> None:
        TunDevice.close(TunDevice("pt0"))
        with open("/proc/sys/net/ipv6/conf/default/disable_ipv6", "w") as file:
            file.write("1")
        tun = TunDevice("pt0")
        assert configure_interface("pt0", ["10.1.2.3/24", "fd00::1/64"], 1400) == ["10.1.2.3/24"]
        tun.close()
        with open("/proc/sys/net/ipv6/conf/default/disable_ipv6", "w") as file:
            file.write("0")
        tun = TunDevice("pt0")
        assert configure_interface("pt0", ["10.1.2.3/24", "fd00::1/64"], 1200) == ["10.1.2.3/24"]
        tun.close()

    in_namespace(check)


def test_default_gateway(in_namespace: InNamespace) -> None:
    def check() -> None:
        assert default_gateway() is None
        veth("near", "192.168.1.2/24")
        veth("far", "10.0.0.2/24")
        assert default_gateway() is None
        ip("route add default via 10.0.0.1 dev far metric 200")
        assert default_gateway() == "10.0.0.1"
        ip("route add default via 192.168.1.1 dev near metric 100")
        assert default_gateway() == "192.168.1.1"
        assert default_gateway(["near"]) == "10.0.0.1"
        ip("route del default dev near")
        ip("route del default dev far")
        ip("route add default dev far")  # A modem that is its own link: nobody to ask.
        assert default_gateway() is None
        ip("route replace default nexthop via 192.168.1.1 nexthop via 10.0.0.1")
        assert default_gateway() == "192.168.1.1"

    in_namespace(check)


def test_mistakes_are_explained(in_namespace: InNamespace) -> None:
    def check() -> None:
        with pytest.raises(OperatorError, match="no interface nosuch"):
            configure_interface("nosuch", [], 1280)
        with pytest.raises(UsageError, match=r"10\.1\.2\.3/33"):
            configure_interface("lo", ["10.1.2.3/33"], 1280)
        with pytest.raises(UsageError, match="no prefix"):
            add_route("somewhere", "lo")
        tun = TunDevice("pt0")
        with pytest.raises(OperatorError, match="cannot configure pt0: Invalid argument"):
            configure_interface("pt0", [], 1 << 20)
        with pytest.raises(OperatorError, match=r"cannot route 10\.0.*: Network is down"):
            add_route("10.0.0.0/8", "pt0")
        tun.close()
        os.setresuid(65534, 65534, 65534)
        with pytest.raises(OperatorError, match="CAP_NET_ADMIN"):
            configure_interface("lo", [], 1280)
        assert local_addresses() == []

    in_namespace(check)


def test_routes(in_namespace: InNamespace) -> None:
    def check() -> None:
        tun = TunDevice("pt0")
        configure_interface("pt0", ["10.1.2.3/24", "fd00:1::1/64"], 1380)
        veth("eth7", "192.168.1.5/24")
        ip("route add default via 192.168.1.1")
        ip("route add 10.9.0.0/16 via 192.168.1.7")
        ip("route add 172.16.0.0/12 nexthop via 192.168.1.7 nexthop via 192.168.1.8")
        ip("route add 0.0.0.0/1 via 192.168.1.9")
        ip("route add blackhole 10.0.0.0/8")
        for _ in range(2):
            add_route("10.50.0.0/16", "pt0")
            add_route("fd50::/48", "pt0")
            add_route("10.1.2.0/24", "pt0")  # there already, by the address
        with pytest.raises(OperatorError, match="routed through eth7 already"):
            add_route("10.9.0.0/16", "pt0")
        assert {r for r in local_routes() if not r.prefix.startswith("fe80")} == {
            Route("0.0.0.0/0", "eth7"),
            Route("0.0.0.0/1", "eth7"),
            Route("192.168.1.0/24", "eth7"),
            Route("10.9.0.0/16", "eth7"),
            Route("172.16.0.0/12", "eth7"),
            Route("10.1.2.0/24", "pt0"),
            Route("10.50.0.0/16", "pt0"),
            Route("fd00:1::/64", "pt0"),
            Route("fd50::/48", "pt0"),
        }
        for prefix, clash in (
            ("10.9.1.0/24", Route("10.9.0.0/16", "eth7")),
            ("10.9.1.7/24", Route("10.9.0.0/16", "eth7")),
            ("192.168.0.0/16", Route("192.168.1.0/24", "eth7")),
            ("172.20.0.0/24", Route("172.16.0.0/12", "eth7")),
            ("10.1.2.0/25", None),
            ("10.77.0.0/24", None),
            ("fd00:1::/80", None),
            ("fd99::/64", None),
        ):
            assert find_clash(prefix, ["pt0"]) == clash
        assert find_clash("10.1.2.0/25") == Route("10.1.2.0/24", "pt0")
        assert find_clash("fd00:1::/80") == Route("fd00:1::/64", "pt0")
        tun.close()

    in_namespace(check)


def test_local_network(in_namespace: InNamespace) -> None:
    """As the kernel has it: what comes of it the core decides."""

    def check() -> None:
        tun = TunDevice("pt0")
        configure_interface("pt0", ["10.1.2.3/24", "fd00:1::1/64"], 1380)
        veth("eth7", "192.168.1.5/24", "fd07::5/64")
        veth("eth8", "172.17.0.1/16")
        with open("/proc/sys/net/ipv6/conf/eth7/use_tempaddr", "w") as file:
            file.write("2")
        ip("address add 2001:db8::5/64 dev eth7 nodad mngtmpaddr")
        ip("address add 2001:db8:9::5/64 dev eth7 nodad preferred_lft 0")
        ip("route add default via 192.168.1.1")
        ip("route add 10.9.0.0/16 via 192.168.1.7")
        ip("route add fd99::/48 dev eth8")
        add_route("10.50.0.0/16", "pt0")
        deadline = time.monotonic() + 10
        while not any(a.is_temporary for a in local_network().addresses):  # tentative for a second
            assert time.monotonic() < deadline
            time.sleep(0.05)
        addresses, routes = local_network(exclude=["pt0"])
        found = {str(a.interface): a for a in addresses}
        (temporary,) = (text for text, a in found.items() if a.is_temporary)
        assert ipaddress.ip_interface(temporary).network == ipaddress.ip_network("2001:db8::/64")
        assert set(found) == {
            "192.168.1.5/24",
            "fd07::5/64",
            "172.17.0.1/16",
            "2001:db8::5/64",
            "2001:db8:9::5/64",
            temporary,
        }
        assert [text for text, a in found.items() if a.is_deprecated] == ["2001:db8:9::5/64"]
        # There is no IPv6 default route.
        assert [text for text, a in found.items() if a.leads_out] == ["192.168.1.5/24"]
        prefixes = {str(route) for route in routes}
        assert {"0.0.0.0/0", "10.9.0.0/16", "fd99::/48", "192.168.1.0/24"} <= prefixes
        assert not prefixes & {"10.50.0.0/16", "10.1.2.0/24", "fd00:1::/64"}
        ip("-6 route add default dev eth7")
        leads_out = {a.ip.version for a in local_network(["pt0"]).addresses if a.leads_out}
        assert leads_out == {4, 6}
        tun.close()

    in_namespace(check)


def test_local_addresses(in_namespace: InNamespace) -> None:
    def check() -> None:
        ip("link set lo up")
        veth("eth7", "192.168.1.5/24", "192.168.1.6/24", "169.254.3.4/16", "fd07::5/64")
        ip("address add 2001:db8::5/64 dev eth7 nodad preferred_lft 0")
        ip("address add 10.8.0.6 peer 10.8.0.5/32 dev eth7")
        ip("address add 203.0.113.9/32 dev lo")
        veth("eth8", "192.168.8.5/24")
        veth("eth9", "192.168.9.5/24")
        ip("link set eth9 down")
        veth("eth10", "192.168.10.5/24")
        ip("link set eth10p down")
        found = {a.host: a for a in local_addresses(exclude=["eth8"])}
        assert set(found) == {
            "192.168.1.5",
            "192.168.1.6",
            "10.8.0.6",
            "203.0.113.9",
            "fd07::5",
            "2001:db8::5",
        }
        assert [host for host, a in found.items() if a.is_deprecated] == ["2001:db8::5"]
        assert not any(a.is_temporary for a in found.values())
        assert found["192.168.1.6"][1:3] == (24, "eth7")

    in_namespace(check)


UNDER_GEVENT = """
import gevent
from tunnel.drivers.network import local_routes, configure_interface
from tunnel.drivers.tun import TunDevice
tun = TunDevice("pt0")
configure_interface("pt0", ["10.1.2.3/24"], 1300)
expected = local_routes()
assert expected
greenlets = [gevent.spawn(local_routes) for _ in range(5)]
gevent.joinall(greenlets, raise_error=True)
threads = [gevent.get_hub().threadpool.spawn(local_routes) for _ in range(5)]
assert [g.value for g in greenlets] + [t.get() for t in threads] == [expected] * 10
"""


def test_under_gevent_in_greenlets_and_in_its_thread_pool() -> None:
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
        pytest.skip("needs root and /dev/net/tun")
    command = ["unshare", "--net", sys.executable, "-c", UNDER_GEVENT]
    subprocess.run(command, check=True, timeout=60)


def test_netlink_leaves_no_descriptors_behind(in_namespace: InNamespace) -> None:
    def check() -> None:
        local_addresses()
        before = os.listdir("/proc/self/fd")
        for _ in range(20):
            local_addresses()
            local_routes()
        assert os.listdir("/proc/self/fd") == before

    in_namespace(check)


def changed(watch: NetworkWatch) -> bool:
    """Netlink delivers before the command that changed something returns: nothing to wait for."""
    is_readable = bool(select.select([watch], [], [], 0)[0])
    has_changed = watch.drain()
    assert is_readable or not has_changed
    assert not watch.drain()
    return has_changed


def test_watch(in_namespace: InNamespace) -> None:
    def check() -> None:
        veth("eth7")
        watch = NetworkWatch()
        assert not changed(watch)
        for what, matters in (
            ("address add 192.168.1.5/24 dev eth7", True),
            ("route add 10.9.0.0/16 via 192.168.1.7", True),
            ("route add 10.10.0.0/16 via 192.168.1.7 table 77", False),
            ("address add 2001:db8::5/64 dev eth7 nodad valid_lft 900 preferred_lft 900", True),
            ("address change 2001:db8::5/64 dev eth7 nodad valid_lft 800 preferred_lft 800", False),
            ("address change 2001:db8::5/64 dev eth7 nodad valid_lft 800 preferred_lft 0", True),
            ("link set eth7 alias uplink", False),
            ("link add eth9 type veth peer name eth9p", False),
            ("link delete eth9", False),
            ("link set eth7 down", True),
            ("link set eth7 up", True),
            ("link delete eth7", True),
        ):
            if what == "link set eth7 alias uplink":
                changed(watch)  # the first news of an interface counts, whatever it is
                ip("link set eth7 alias first")
                watch.drain()
            ip(what)
            assert changed(watch) == matters, what
        watch.close()
        assert not watch.drain()

    in_namespace(check)


@pytest.mark.parametrize("is_first", [True, False])
def test_watch_ignores_our_own_interface(in_namespace: InNamespace, is_first: bool) -> None:
    def check() -> None:
        watch = None if is_first else NetworkWatch(ignore=["pt0"])
        tun = TunDevice("pt0")
        watch = watch or NetworkWatch(ignore=["pt0"])
        configure_interface("pt0", ["10.1.2.3/24", "fd00::1/64"], 1300)
        add_route("10.50.0.0/16", "pt0")
        assert not changed(watch)
        tun.close()
        assert not changed(watch)
        veth("eth7", "192.168.1.5/24")
        assert changed(watch)

    in_namespace(check)


def test_watch_that_lost_messages_assumes_the_worst(in_namespace: InNamespace) -> None:
    def check() -> None:
        veth("eth7")
        watch = NetworkWatch(ignore=["eth7"])
        watch._socket.setsockopt(1, 8, 1)  # SO_RCVBUF: as small as it gets
        for i in range(40):
            ip(f"address add 10.0.{i}.1/24 dev eth7")
        assert changed(watch)

    in_namespace(check)
