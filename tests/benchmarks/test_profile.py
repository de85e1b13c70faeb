from __future__ import annotations

import pytest

from benchmarks.profile import GROUPS, group_of, share


@pytest.mark.parametrize(
    ("function", "group"),
    [
        ("Hub.run (gevent/hub.py:647)", "waiting"),
        ("TunDevice.write_packet (tunnel/drivers/tun.py:123)", "write (TUN)"),
        ("Headers.put_train (tunnel/dataplane/headers.py:53)", "sealing"),
        ("Headers.take (tunnel/dataplane/headers.py:57)", "opening"),
        ("Merger.merge (tunnel/dataplane/merging.py:60)", "opening"),
        ("ReplayFilter._write (tunnel/noise/replay.py:90)", "core, noise"),
        ("Sender.transmit (tunnel/drivers/udp_send.py:90)", "drivers"),
        ("<lambda> (<string>:1)", "others"),
    ],
)
def test_innermost_functions(function: str, group: str) -> None:
    assert group_of(function) == group


def test_shares_are_of_all_but_threads_without_work() -> None:
    stacks = [
        "main (a.py:1);Hub.run (gevent/hub.py:647) 30",
        "main (a.py:1);Hub.run (gevent/hub.py:647);Sender._call (tunnel/drivers/udp_send.py:9) 70",
        "run (threading.py:1);acquire_with_timeout (gevent/_threading.py:36) 900",
    ]
    assert share(stacks) == {"waiting": 30.0, "sendmsg, sendto": 70.0}


def test_functions_that_are_named_exist() -> None:
    from tunnel.dataplane.headers import Headers
    from tunnel.drivers.mmsg import Incoming
    from tunnel.drivers.tun import TunDevice
    from tunnel.drivers.udp_send import Sender

    patterns = "".join(pattern for _, pattern in GROUPS)
    for kind, name in (
        (TunDevice, "read_packet"),
        (TunDevice, "write_packet"),
        (Sender, "_call"),
        (Incoming, "receive"),
        (Headers, "put_train"),
    ):
        assert hasattr(kind, name)
        assert f"{kind.__name__}\\.{name} " in patterns or kind is Headers
