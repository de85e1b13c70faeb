"""Port mapping against a router that is good, bad, or not there, in virtual time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from tests.core.gateway import EXTERNAL, HOME, ROUTER, Gateway, Mapping
from tunnel.core.events import PortMapped, PortMappingLost
from tunnel.core.port_mapping import MapperState
from tunnel.core.upnp_operations import (
    MAX_OPERATIONS,
    UpnpFind,
    UpnpMap,
    UpnpOperation,
    UpnpResult,
    UpnpUnmap,
)
from tunnel.wire import natpmp, pcp
from tunnel.wire.endpoint import Endpoint

PUBLIC = Endpoint(EXTERNAL, HOME.port)
DATAGRAM_PROTOCOLS = ("pcp", "nat-pmp")
PROTOCOLS = (*DATAGRAM_PROTOCOLS, "upnp")


def only(*protocols: str, **options: object) -> Gateway:
    return dataclasses.replace(Gateway(speaks=set(protocols)), **options)


def mapped(*protocols: str, **options: object) -> Mapping:
    """A mapper with a mapping by the one protocol the router speaks."""
    mapping = Mapping(only(*protocols, **options)).start().run(5)
    assert mapping.mapper.external is not None
    return mapping


# Asking


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_protocol_maps_our_port(protocol: str) -> None:
    mapping = mapped(protocol)
    assert mapping.mapper.external == PUBLIC
    assert mapping.events == [PortMapped(protocol, PUBLIC, is_reachable=True)]
    assert mapping.described("protocol") == protocol
    assert mapping.described("external") == f"{EXTERNAL}:{HOME.port}"
    assert mapping.described("state") == "mapped"
    assert mapping.described("reason") is None


def test_pcp_comes_first_and_one_datagram_does() -> None:
    mapping = Mapping().start()
    assert mapping.described("protocol") == "pcp"
    assert mapping.sent == 1
    assert mapping.described("lifetime_s") == 7200


def test_a_nat_pmp_router_says_so_at_once() -> None:
    """RFC 6887 appendix A: no time is lost."""
    mapping = Mapping(only("nat-pmp")).start()
    assert mapping.described("protocol") == "nat-pmp"
    assert mapping.sent == 3


def test_a_nat_pmp_router_that_is_silent_to_pcp() -> None:
    mapping = Mapping(only("nat-pmp", answers_unknown_version=False)).start()
    assert mapping.mapper.external is None
    assert mapping.run(1.3).described("protocol") == "nat-pmp"


def test_a_second_late_answer_to_pcp_does_not_end_nat_pmp() -> None:
    mapping = Mapping(only("nat-pmp"))
    mapping.is_reachable = False
    mapping.start()
    refusal = natpmp.ErrorResponse(1, 1, 9).pack()
    mapping.hear(refusal)
    mapping.hear(refusal)
    mapping.is_reachable = True
    assert mapping.run(0.3).described("protocol") == "nat-pmp"


def test_requests_are_sent_three_times() -> None:
    mapping = Mapping(only()).start().run(1.2)
    assert [datagram[0] for datagram in mapping.gateway.heard] == [2, 2, 2]
    mapping.run(1.3)
    # Address and mapping, three times.
    assert [datagram[0] for datagram in mapping.gateway.heard[3:]] == [0] * 6


def test_nobody_there() -> None:
    mapping = Mapping(only()).start().run(5)
    assert mapping.mapper.state is MapperState.WAITING
    assert mapping.described("state") == "unavailable"
    assert mapping.described("reason") == "PCP: no answer; NAT-PMP: no answer; UPnP: no IGD answers"
    assert mapping.mapper.external is None
    assert mapping.events == []


def test_a_vain_search_is_repeated_more_and_more_rarely() -> None:
    mapping = Mapping(only()).start().run(10)
    counts = []
    for _ in range(24):
        before = mapping.sent
        mapping.run(3600)
        counts.append(mapping.sent - before)
    assert counts[0] >= 27
    assert counts[-1] == 9
    mapping.gateway.speaks = {"pcp"}
    assert mapping.run(3700).mapper.external == PUBLIC


def test_a_closed_port_is_not_waited_for() -> None:
    mapping = Mapping(only("upnp")).start()
    mapping.mapper.receive_error(ROUTER, None, mapping.now)
    mapping.settle()
    assert mapping.described("protocol") == "upnp"
    assert mapping.sent == 1


@pytest.mark.parametrize(
    ("endpoint", "mtu"), [(Endpoint("192.168.1.9", 5351), None), (ROUTER, 1280)]
)
def test_icmp_about_something_else(endpoint: Endpoint, mtu: int | None) -> None:
    mapping = Mapping(only("upnp")).start()
    mapping.mapper.receive_error(endpoint, mtu, mapping.now)
    assert mapping.settle().mapper.external is None


@pytest.mark.parametrize(
    ("internal", "reason"),
    [
        (None, "there is no router"),
        (HOME._replace(host="203.0.113.5"), "not needed: this machine's own address is public"),
    ],
)
def test_no_router_to_ask(internal: object, reason: str) -> None:
    mapping = Mapping()
    mapping.mapper.set_network(internal, mapping.now, "there is no router")  # type: ignore[arg-type]
    assert mapping.settle().sent == 0
    assert mapping.mapper.get_timer() is None
    assert mapping.described("state") == "idle"
    assert mapping.described("reason") == reason


# What a router may answer


@pytest.mark.parametrize("protocol", DATAGRAM_PROTOCOLS)
def test_another_port_than_asked_for(protocol: str) -> None:
    mapping = mapped(protocol, port=40123)
    assert mapping.mapper.external == Endpoint(EXTERNAL, 40123)
    mapping.gateway.heard.clear()
    mapping.run(3601)
    assert (40123).to_bytes(2, "big") in mapping.gateway.heard[-1]  # It is what we ask for again.


@pytest.mark.parametrize("protocol", DATAGRAM_PROTOCOLS)
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"lifetime": 0}, "granted for 0 s"),
        ({"port": 0}, "granted external port 0"),
        ({"address": "0.0.0.0"}, "the router has no external address"),
        ({"address": "127.0.0.1"}, "its external address 127.0.0.1 is of no use"),
        ({"address": "224.0.0.1"}, "its external address 224.0.0.1 is of no use"),
        ({"address": "169.254.3.4"}, "its external address 169.254.3.4 is of no use"),
        ({"result": 2}, "not authorized"),
        ({"result": 99}, "result 99"),
    ],
)
def test_answers_that_are_of_no_use(protocol: str, options: dict[str, object], reason: str) -> None:
    mapping = Mapping(only(protocol, **options)).start().run(5)
    assert mapping.mapper.external is None
    assert mapping.described("state") == "refused"
    name = {"pcp": "PCP", "nat-pmp": "NAT-PMP"}[protocol]
    assert f"{name}: {reason}" in str(mapping.described("reason"))
    assert mapping.gateway.mappings == {}  # What cannot be used is given up.


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("2001:db8::1", "its external address '2001:db8::1' is no IPv4 address"),
        ("", "its external address '' is no IPv4 address"),
        ("evil.example", "its external address 'evil.example' is no IPv4 address"),
        ("0.0.0.0", "the router has no external address"),
    ],
)
def test_an_igd_that_says_nonsense(address: str, reason: str) -> None:
    mapping = Mapping(only("upnp", address=address)).start().run(5)
    assert mapping.mapper.external is None
    assert f"UPnP: {reason}" in str(mapping.described("reason"))
    assert mapping.gateway.mappings == {}


def test_pcp_with_an_ipv6_address() -> None:
    mapping = Mapping(only("pcp", address="2001:db8::1")).start().run(5)
    assert mapping.mapper.external is None
    assert "is no IPv4 address" in str(mapping.described("reason"))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("address", ["192.168.178.20", "10.1.2.3", "172.20.0.1", "100.64.3.2"])
def test_a_private_external_address_means_double_nat(protocol: str, address: str) -> None:
    mapping = Mapping(only(protocol, address=address)).start().run(5)
    assert mapping.mapper.external is None
    assert mapping.described("state") == "double-nat"
    assert f"its own address {address} is private" in str(mapping.described("reason"))
    assert mapping.described("external") == f"{address}:{HOME.port}"
    assert mapping.events == [
        PortMapped(protocol, Endpoint(address, HOME.port), is_reachable=False)
    ]
    mapping.run(20 * 3600)
    assert len(mapping.gateway.mappings) == 1  # The inner NAT lets everybody in.
    assert len(mapping.events) == 1


@pytest.mark.parametrize(
    ("granted", "renewals"), [(1, 900), (7, 900), (60, 120), (2**32 - 1, 0), (86400, 0)]
)
@pytest.mark.parametrize("protocol", DATAGRAM_PROTOCOLS)
def test_lifetimes_are_bounded(protocol: str, granted: int, renewals: int) -> None:
    mapping = mapped(protocol, lifetime=granted)
    assert 1 <= float(str(mapping.described("lifetime_s"))) <= 86400
    before = len(mapping.gateway.heard)
    mapping.run(3600)
    per_renewal = 1 if protocol == "pcp" else 2
    assert abs((len(mapping.gateway.heard) - before) / per_renewal - renewals) <= 2
    assert len(mapping.events) == 1
    mapping.run(86400)
    assert len(mapping.gateway.heard) > before
    assert mapping.mapper.external is not None


def change(offset: int, value: int) -> Callable[[bytes], bytes]:
    def changed(answer: bytes) -> bytes:
        return answer[:offset] + bytes([answer[offset] ^ value]) + answer[offset + 1 :]

    return changed


@pytest.mark.parametrize(
    ("protocol", "forge"),
    [
        ("pcp", change(24, 1)),  # nonce
        ("pcp", change(36, 17 ^ 6)),  # TCP
        ("pcp", change(40, 1)),  # internal port
        ("pcp", change(0, 1)),  # version
        ("pcp", change(1, 128)),  # a request
        ("pcp", lambda answer: answer[:-4]),
        ("pcp", lambda answer: answer + b"1"),
        ("pcp", lambda answer: b""),
        ("nat-pmp", lambda answer: change(8, 1)(answer) if len(answer) == 16 else answer),
        ("nat-pmp", lambda answer: change(1, 3)(answer)),  # TCP's operation, or none
        ("nat-pmp", lambda answer: answer[:-1]),
        ("nat-pmp", lambda answer: answer + b"12"),
    ],
)
def test_answers_that_are_none(protocol: str, forge: Callable[[bytes], bytes]) -> None:
    mapping = Mapping(only(protocol, forge=forge)).start().run(5)
    assert mapping.mapper.external is None
    assert mapping.described("state") == "unavailable"
    assert sum(mapping.mapper.drops.values()) >= 3


@pytest.mark.parametrize(
    "source",
    [
        ROUTER._replace(host="192.168.1.9"),
        ROUTER._replace(port=5352),
        Endpoint("203.0.113.1", 5351),
    ],
)
def test_answers_from_elsewhere(source: Endpoint) -> None:
    mapping = Mapping(only("pcp"))
    mapping.is_reachable = False
    mapping.start()
    mapping.hear(natpmp.MapResponse(1, HOME.port, HOME.port, 7200).pack(), source)
    assert mapping.mapper.external is None
    assert mapping.mapper.drops == {"port mapping: not from the router": 1}


def test_answers_nobody_asked_for() -> None:
    mapping = mapped("pcp")
    mapping.hear(natpmp.MapResponse(1, HOME.port, 1, 7200).pack())
    mapping.hear(pcp.MapResponse(0, 7200, 5).pack())
    assert mapping.mapper.external == PUBLIC
    assert mapping.mapper.drops == {"port mapping: nothing was asked": 2}


def test_a_router_that_forbids_to_ask_again() -> None:
    """RFC 6887 §7.2: an error's lifetime. Bounded, or a forged one would be for ever."""
    mapping = Mapping(only("pcp", result=2, error_lifetime=2**32 - 1)).start().run(5)
    heard = len(mapping.gateway.heard)
    mapping.run(3500)
    assert len(mapping.gateway.heard) == heard
    mapping.gateway.result = 0
    assert mapping.run(200).mapper.external == PUBLIC


# UPnP's objections


def test_a_port_that_another_machine_has() -> None:
    mapping = mapped("upnp", upnp_errors=["ConflictInMappingEntry"])
    external = mapping.mapper.external
    assert external is not None
    assert external.port != HOME.port
    assert external.port >= 1024
    assert list(mapping.gateway.mappings.values()) == [external.port]


def test_a_router_that_maps_for_ever_or_not_at_all() -> None:
    mapping = mapped("upnp", upnp_errors=["OnlyPermanentLeasesSupported"])
    assert [o.lifetime for o in mapping.gateway.carried_out if isinstance(o, UpnpMap)] == [7200, 0]
    assert mapping.described("lifetime_s") is not None
    mapping.run(3 * 7200)
    assert len(mapping.events) == 1


@pytest.mark.parametrize("error", ["ConflictInMappingEntry", "Action not authorized"])
def test_a_router_that_objects_to_everything(error: str) -> None:
    mapping = Mapping(only("upnp", upnp_errors=[error] * 10)).start().run(5)
    assert mapping.described("state") == "refused"
    assert f"UPnP: {error}" in str(mapping.described("reason"))
    assert len(mapping.gateway.carried_out) <= 5


def test_an_igd_that_moved_is_found_again() -> None:
    """A router that has started again listens on another TCP port."""
    mapping = mapped("upnp")
    mapping.is_busy = True
    mapping.run(600)
    (renewal,) = mapping.operations
    mapping.operations.clear()
    mapping.is_busy = False
    lost = UpnpResult(renewal.serial, error="Miniupnpc HTTP error", is_silence=True)
    mapping.mapper.receive_result(lost, mapping.now)
    mapping.settle()
    assert isinstance(mapping.gateway.carried_out[-2], UpnpFind)
    assert mapping.described("lifetime_s") == 7200


def carry_out(mapping: Mapping, operation: UpnpOperation) -> Mapping:
    """Late: the driver's thread has done it now."""
    mapping.mapper.receive_result(mapping.gateway.carry_out(operation), mapping.now)
    return mapping.settle()


def found(protocol: str = "upnp") -> Mapping:
    """A mapper that has found the IGD, and whose next operations hang."""
    mapping = Mapping(only(protocol))
    mapping.is_busy = True
    mapping.start().run(3)
    (find,) = mapping.operations
    assert isinstance(find, UpnpFind)
    mapping.operations.clear()
    return carry_out(mapping, find)


def test_an_igd_that_hangs() -> None:
    mapping = found().run(60)
    assert mapping.described("state") == "unavailable"
    (operation,) = mapping.operations
    # At last it answers: nobody waits, so it is undone.
    mapping.is_busy = False
    assert carry_out(mapping, operation).gateway.mappings == {}


def test_an_igd_that_hangs_for_ever_is_not_asked_for_ever() -> None:
    mapping = Mapping(only("upnp"))
    mapping.is_busy = True
    mapping.start().run(7 * 86400)
    assert len(mapping.operations) == MAX_OPERATIONS


def test_a_renewal_that_hangs_does_not_undo_the_mapping() -> None:
    mapping = mapped("upnp")
    mapping.is_busy = True
    mapping.run(700)
    (renewal,) = mapping.operations
    assert mapping.mapper.external == PUBLIC
    mapping.is_busy = False
    carry_out(mapping, renewal)
    assert list(mapping.gateway.mappings.values()) == [HOME.port]


def test_results_of_nothing() -> None:
    mapping = mapped("pcp")
    mapping.mapper.receive_result(UpnpResult(77, "192.0.2.1"), mapping.now)
    assert mapping.settle().mapper.external == PUBLIC


# Renewing


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_renewed_in_time_and_without_a_word(protocol: str) -> None:
    mapping = mapped(protocol).run(3 * 86400)
    assert mapping.mapper.external == PUBLIC
    assert len(mapping.events) == 1


@pytest.mark.parametrize("protocol", DATAGRAM_PROTOCOLS)
def test_renewed_at_half_the_lifetime(protocol: str) -> None:
    mapping = mapped(protocol, lifetime=600)
    mapping.gateway.heard.clear()
    mapping.run(290)
    assert mapping.gateway.heard == []
    mapping.run(10)
    assert len(mapping.gateway.heard) == (1 if protocol == "pcp" else 2)


@pytest.mark.parametrize("protocol", DATAGRAM_PROTOCOLS)
def test_a_silent_router_is_asked_until_the_lease_ends(protocol: str) -> None:
    mapping = mapped(protocol, lifetime=600)
    mapping.is_reachable = False
    mapping.gateway.speaks = set()
    mapping.run(590)
    assert mapping.mapper.external == PUBLIC
    assert 9 <= mapping.sent <= 80
    mapping.run(20)
    assert mapping.mapper.external is None
    assert mapping.events[1:] == [PortMappingLost(PUBLIC, "the router did not renew it")]
    mapping.is_reachable = True
    mapping.gateway.speaks = {protocol}
    assert mapping.run(400).mapper.external == PUBLIC


def test_a_router_that_hears_again_renews_in_time() -> None:
    mapping = mapped("pcp", lifetime=600)
    mapping.is_reachable = False
    mapping.run(400)
    mapping.is_reachable = True
    mapping.run(3600)
    assert len(mapping.events) == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_refused_at_renewal(protocol: str) -> None:
    """Whatever else the router speaks is tried."""
    mapping = mapped(protocol)
    mapping.gateway.result = 2
    mapping.gateway.upnp_errors = ["Action not authorized"] * 5
    mapping.run(3700)
    assert mapping.mapper.external is None
    lost = [event for event in mapping.events if isinstance(event, PortMappingLost)]
    assert [event.reason.lower() for event in lost] in (
        ["not authorized"],
        ["action not authorized"],
    )
    assert mapping.described("state") == "refused"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_another_address_at_renewal(protocol: str) -> None:
    mapping = mapped(protocol)
    mapping.gateway.address = "198.51.100.77"
    mapping.run(3601)
    moved = Endpoint("198.51.100.77", HOME.port)
    assert mapping.mapper.external == moved
    assert mapping.events[1:] == [PortMapped(protocol, moved, is_reachable=True)]


# A router that starts again


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_announced_restart_is_repaired_at_once(protocol: str) -> None:
    mapping = mapped(protocol).run(100)
    mapping.announce()
    mapping.gateway.restart(mapping.now)
    assert mapping.gateway.mappings == {}
    mapping.run(15)
    mapping.announce()
    mapping.run(1)
    assert list(mapping.gateway.mappings.values()) == [HOME.port]
    assert len(mapping.events) == 1  # Nobody needed to notice.


def test_a_pcp_announcement_counts_too() -> None:
    mapping = mapped("pcp").run(100)
    mapping.gateway.restart(mapping.now)
    mapping.hear(pcp.Announcement(0).pack())
    mapping.run(1)
    assert list(mapping.gateway.mappings.values()) == [HOME.port]


def test_an_announced_address_is_followed() -> None:
    mapping = mapped("nat-pmp").run(100)
    mapping.gateway.address = "198.51.100.77"
    mapping.announce()
    assert mapping.run(1).mapper.external == Endpoint("198.51.100.77", HOME.port)


def test_announcements_that_say_nothing_new_are_not_answered() -> None:
    mapping = mapped("pcp")
    sent = mapping.sent
    for _ in range(100):
        mapping.run(10)
        mapping.announce()
    assert mapping.sent == sent


def test_forged_announcements_cost_little() -> None:
    mapping = mapped("pcp")
    sent = mapping.sent
    for number in range(1000):
        mapping.run(0.1)
        mapping.hear(pcp.Announcement(number * 7919 % 100_000).pack())
    assert mapping.sent - sent <= 12
    assert len(mapping.events) == 1


def test_a_router_that_comes_up_late_is_asked_when_it_says_so() -> None:
    mapping = Mapping(only()).start().run(20)
    mapping.gateway.speaks = {"nat-pmp"}
    mapping.announce()
    assert mapping.run(1).mapper.external == PUBLIC


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_check_finds_what_was_lost(protocol: str) -> None:
    mapping = mapped(protocol).run(100)
    mapping.gateway.restart(mapping.now)
    mapping.mapper.check(mapping.now)
    mapping.run(1)
    assert list(mapping.gateway.mappings.values()) == [HOME.port]


# Giving up


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_given_up_at_the_end(protocol: str) -> None:
    mapping = mapped(protocol)
    mapping.mapper.close(mapping.now)
    mapping.settle()
    assert mapping.gateway.mappings == {}
    assert mapping.is_closed
    assert mapping.mapper.get_timer() is None
    # Once and for all.
    mapping.mapper.close(mapping.now)
    mapping.mapper.set_network(HOME._replace(port=9), mapping.now)
    assert mapping.settle().gateway.mappings == {}


@pytest.mark.parametrize("protocol", DATAGRAM_PROTOCOLS)
def test_giving_up_is_repeated_but_not_for_long(protocol: str) -> None:
    mapping = mapped(protocol)
    mapping.is_reachable = False
    mapping.mapper.close(mapping.now)
    mapping.settle().run(0.3)
    assert not mapping.is_closed
    mapping.is_reachable = True
    mapping.run(0.6)
    assert mapping.is_closed
    assert mapping.gateway.mappings == {}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_dead_router_does_not_hold_us(protocol: str) -> None:
    mapping = mapped(protocol)
    mapping.is_reachable, mapping.is_busy = False, True
    mapping.mapper.close(mapping.now)
    assert mapping.settle().run(3.1).is_closed


def test_what_is_under_way_is_given_up_too() -> None:
    mapping = Mapping()
    mapping.mapper.set_network(HOME, mapping.now)
    (request,) = mapping.mapper.datagrams_to_send(mapping.now)
    mapping.gateway.answer(bytes(request.data), mapping.now)
    assert mapping.gateway.mappings
    mapping.mapper.close(mapping.now)
    assert mapping.settle().gateway.mappings == {}


def test_an_operation_under_way_is_undone() -> None:
    mapping = found()
    (operation,) = mapping.operations
    mapping.mapper.close(mapping.now)
    assert not mapping.settle().is_closed
    mapping.is_busy = False
    assert carry_out(mapping, operation).is_closed
    assert mapping.gateway.mappings == {}


def test_looking_for_an_igd_does_not_hold_us() -> None:
    mapping = Mapping(only("upnp"))
    mapping.is_busy = True
    mapping.start().run(3)
    assert mapping.operations
    mapping.mapper.close(mapping.now)
    assert mapping.settle().is_closed


def test_closing_before_anything_was_asked() -> None:
    for mapping in (Mapping(), Mapping().start(None), Mapping(only()).start().run(5)):
        mapping.mapper.close(mapping.now)
        assert mapping.settle().is_closed


# Another network, another port


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_another_port_of_ours(protocol: str) -> None:
    mapping = mapped(protocol)
    mapping.start(HOME._replace(port=4444)).run(5)
    assert mapping.mapper.external == Endpoint(EXTERNAL, 4444)
    assert list(mapping.gateway.mappings.values()) == [4444]
    lost, found = mapping.events[1:]
    assert isinstance(lost, PortMappingLost)
    assert isinstance(found, PortMapped)


def test_another_network_is_told_nothing_of_the_old() -> None:
    mapping = mapped("pcp")
    elsewhere = HOME._replace(gateway="10.0.0.1", host="10.0.0.7")
    mapping.mapper.set_network(elsewhere, mapping.now)
    (transmit,) = mapping.mapper.datagrams_to_send(mapping.now)
    assert transmit.endpoint == Endpoint("10.0.0.1", 5351)
    assert transmit.data[4:8] == (7200).to_bytes(4, "big")
    assert mapping.mapper.external is None


def test_the_network_goes_away() -> None:
    mapping = mapped("pcp")
    mapping.mapper.set_network(None, mapping.now, "there is no default route")
    mapping.settle()
    assert mapping.mapper.external is None
    assert mapping.mapper.get_timer() is None
    assert mapping.described("reason") == "there is no default route"
    assert isinstance(mapping.events[-1], PortMappingLost)
    assert mapping.start().mapper.external == PUBLIC


def test_the_same_network_again_is_a_check() -> None:
    mapping = mapped("pcp").run(100)
    mapping.gateway.restart(mapping.now)
    mapping.start().run(1)
    assert list(mapping.gateway.mappings.values()) == [HOME.port]
    assert len(mapping.events) == 1


def test_a_node_that_was_killed_may_have_its_mapping_again() -> None:
    """RFC 6887 §11.3: whoever has another nonce is not let near a mapping."""
    first, second = Mapping(seed=1).start(), Mapping(seed=2).start()
    assert first.gateway.heard == second.gateway.heard
    other = Mapping().start(HOME._replace(port=9))
    assert other.gateway.heard[0][24:36] != first.gateway.heard[0][24:36]


# The contract of a machine


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_timers_early_or_twice_are_harmless(protocol: str) -> None:
    mapping = mapped(protocol)
    before = mapping.mapper.describe(mapping.now), mapping.sent
    for _ in range(3):
        mapping.mapper.handle_timer(mapping.now)
        mapping.settle()
    assert (mapping.mapper.describe(mapping.now), mapping.sent) == before
    assert mapping.mapper.get_timer() == mapping.mapper.get_timer()


def test_same_inputs_same_outputs() -> None:
    def play() -> tuple[object, ...]:
        mapping = Mapping(only("upnp", upnp_errors=["ConflictInMappingEntry"])).start().run(20_000)
        return mapping.gateway.heard, mapping.gateway.carried_out, mapping.events

    assert play() == play()


def test_unmapping_is_an_operation_of_its_own() -> None:
    mapping = mapped("upnp")
    mapping.mapper.close(mapping.now)
    (unmap,) = mapping.mapper.take_operations()
    assert unmap == UpnpUnmap(unmap.serial, HOME, HOME.port)
    assert mapping.mapper.take_operations() == []
