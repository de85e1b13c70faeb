"""What happens to the path. Those that return a time count from then."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

from .site import LEFT_PUBLIC_LATER, RIGHT_PUBLIC
from .trial import Trial

SUSPENDED = 60.0
"""Seconds."""


def nothing(trial: Trial) -> None:
    """The control."""
    trial.disturbed()


def flush_left(trial: Trial) -> None:
    """Left's router forgets its mappings; it will give the same ports again."""
    trial.disturbed()
    trial.site.left_router.flush_mappings()


def flush_both(trial: Trial) -> None:
    """Both routers do, at once."""
    routers = (trial.site.left_router, trial.site.right_router)
    threads = [threading.Thread(target=router.flush_mappings) for router in routers]
    trial.disturbed()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def reboot_left(trial: Trial) -> None:
    """Left's router forgets its mappings and gives out other ports. Links stay up."""
    trial.disturbed()
    trial.site.left_router.reboot()


def change_address(trial: Trial) -> None:
    """Left's router gets another public address."""
    trial.disturbed()
    trial.site.left_router.change_public_address(LEFT_PUBLIC_LATER)


def move_left(trial: Trial) -> None:
    """Left is plugged into another router: its interface, address and route are new."""
    trial.disturbed()
    trial.site.left.attach(trial.site.elsewhere)


def flush_without_server(trial: Trial) -> None:
    """The server is killed; 3 s later left's router forgets its mappings."""
    trial.contender.kill_server()
    time.sleep(3.0)
    flush_left(trial)


def suspend_left(trial: Trial) -> float:
    """The machine sleeps: nothing that comes is kept for its programs. All clocks go on, which
    those of a machine that sleeps don't: a program that compares them notices nothing here."""
    left = trial.site.left
    left.nft(f"""
        table inet asleep {{
            chain prerouting {{
                type filter hook prerouting priority raw
                iifname {left.uplink} drop
            }}
        }}""")
    return freeze_left(trial, wake=lambda: left.nft("delete table inet asleep"))


def freeze_left(trial: Trial, wake: Callable[[], None] = lambda: None) -> float:
    """Its programs don't run; what comes meanwhile waits in their sockets."""
    assert trial.stream is not None
    processes = [*trial.contender.processes(trial.site.left), trial.stream.left.process]

    def signal_all(number: int) -> None:
        for process in processes:
            os.killpg(process.pid, number)  # with its children

    signal_all(signal.SIGSTOP)
    time.sleep(SUSPENDED / 2)
    trial.site.left_router.flush_mappings()
    time.sleep(SUSPENDED / 2)
    wake()
    begin = trial.disturbed()
    signal_all(signal.SIGCONT)
    return begin


def block_one_way(trial: Trial) -> None:
    """Left's router drops what comes from right's, and nothing else, for good."""
    trial.disturbed()
    # Before conntrack, which so does not see those packets either.
    trial.site.left_router.nft(f"""
        table inet one-way {{
            chain prerouting {{
                type filter hook prerouting priority raw
                iifname wan ip saddr {RIGHT_PUBLIC} meta l4proto udp drop
            }}
        }}""")
