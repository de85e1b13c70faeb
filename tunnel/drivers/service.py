"""``punchtun service``: the units in their place, and state handed over and back."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tunnel.drivers import service_state
from tunnel.drivers.hosts_file import HOSTS, HostsFile
from tunnel.drivers.places import DEFAULT_SERVICE, RUN, STATE
from tunnel.drivers.units import NODE_UNITS, SERVER_UNITS, find_command, render_unit
from tunnel.errors import OperatorError, UsageError
from tunnel.wire.certificate import is_valid_name

UNITS = Path("/etc/systemd/system")
_VENDOR_UNITS = (Path("/usr/lib/systemd/system"), Path("/lib/systemd/system"))
_PRIVATE = Path("/var/lib/private/punchtun")
_TUN = Path("/dev/net/tun")
_OPEN_TUN = UNITS / "punchtun@.service.d/open-tun.conf"
"""Where the device is root's alone, as in some containers. Elsewhere it is open to all: what can be
done with it takes CAP_NET_ADMIN."""


@dataclass
class Actions:
    """Tells each step, and takes it unless it is a rehearsal."""

    tell: Callable[[str], None]
    is_dry_run: bool = False
    taken: list[str] = field(default_factory=list)

    def take(self, description: str, act: Callable[[], object]) -> None:
        self.taken.append(description)
        self.tell(f"would {description}" if self.is_dry_run else description)
        if not self.is_dry_run:
            act()

    def systemctl(self, *arguments: str) -> None:
        """Raises OperatorError if it fails."""
        self.take(f"systemctl {' '.join(arguments)}", lambda: _call_systemctl(arguments))


def install_server(actions: Actions) -> None:
    """Idempotent, as all of these. Raises OperatorError."""
    _check_system(actions)
    unit = SERVER_UNITS[0]
    if not _is_active(unit):
        service_state.refuse_running(STATE / "server")
    has_changed = _place_units(SERVER_UNITS, actions)
    _start([unit], unit, has_changed, actions)


def install_node(name: str | None, actions: Actions) -> None:
    """`name` None: the node of commands without --state-dir. Raises OperatorError."""
    instance = _check_name(name)
    _check_system(actions)
    unit, state = f"punchtun@{instance}.service", STATE / instance
    if not _is_active(unit):
        has_moved = name is None and service_state.is_member(STATE)
        source = STATE if has_moved else state
        service_state.refuse_running(source)
        if not service_state.is_member(source):
            option = "" if name is None else f" --state-dir {state}"
            raise UsageError(
                f"this machine is in no network yet: `punchtun up 'punchtun-join:…'{option}` (or "
                "--server URL to create one), Ctrl-C when it is up, then this again"
            )
        if has_moved:
            actions.take(
                f"move the node in {STATE} to {state}",
                lambda: service_state.move_node(STATE, state),
            )
    has_changed = _open_tun(actions)
    has_changed = _place_units(NODE_UNITS, actions, must_reload=has_changed) or has_changed
    _start([unit, f"punchtun-online@{instance}.service"], unit, has_changed, actions)


def uninstall_server(actions: Actions, *, purge: bool) -> None:
    """The server's state is root's again, or gone. Raises OperatorError."""
    _check_system(actions)
    _stop(SERVER_UNITS, actions)
    _remove_units(SERVER_UNITS, actions)
    _return_state("server", STATE / "server", actions, purge=purge)


def uninstall_node(name: str | None, actions: Actions, *, purge: bool) -> None:
    """What install did is undone: the state is root's, where it was, or gone. Raises
    OperatorError."""
    instance = _check_name(name)
    _check_system(actions)
    _stop([f"punchtun@{instance}.service", f"punchtun-online@{instance}.service"], actions)
    _remove_names(instance, actions)
    if not _other_instances(instance):
        _remove_units([*NODE_UNITS, f"{_OPEN_TUN.parent.name}/{_OPEN_TUN.name}"], actions)
    _return_state(instance, STATE if name is None else STATE / instance, actions, purge=purge)


def _check_name(name: str | None) -> str:
    if name is None:
        return DEFAULT_SERVICE
    if not is_valid_name(name):
        raise UsageError(f"'{name}': use a-z, 0-9 and hyphens, at most 63 characters")
    if name in ("server", DEFAULT_SERVICE):
        raise UsageError(f"'{name}' is taken: choose another name for the service")
    return name


def _check_system(actions: Actions) -> None:
    if not Path("/run/systemd/system").is_dir():
        raise OperatorError("systemd does not run this machine: see docs/operations.md")
    if os.geteuid() != 0:
        raise OperatorError("services are root's to install: run it with sudo")


def _open_tun(actions: Actions) -> bool:
    """Whether that had to be arranged for."""
    if not _TUN.exists() or _TUN.stat().st_mode & 0o006 == 0o006 or _OPEN_TUN.exists():
        return False
    text = f"[Service]\nExecStartPre=+chmod 666 {_TUN}\n"
    actions.take(f"write {_OPEN_TUN}", partial(_write, _OPEN_TUN, text))
    return True


def _place_units(names: Sequence[str], actions: Actions, *, must_reload: bool = False) -> bool:
    """Whether one of them was not there yet, as it is to be."""
    command = find_command()
    changed = [name for name in names if not _is_placed(name, render_unit(name, command))]
    for name in changed:
        text = render_unit(name, command)
        actions.take(f"write {UNITS / name}", partial(_write, UNITS / name, text))
    if changed or must_reload:
        actions.systemctl("daemon-reload")
    return bool(changed)


def _is_placed(name: str, text: str) -> bool:
    """Our own copy goes before the distribution's."""
    for place in (UNITS, *_VENDOR_UNITS):
        try:
            return (place / name).read_text() == text
        except FileNotFoundError:
            continue
        except OSError as error:
            raise OperatorError(f"cannot read {place / name}: {error.strerror}") from error
    return False


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o644)
    except OSError as error:
        raise OperatorError(f"cannot write {path}: {error.strerror}") from error


def _remove(path: Path) -> None:
    path.unlink()
    if path.parent != UNITS:
        with contextlib.suppress(OSError):  # There is something of others in it.
            path.parent.rmdir()


def _start(units: Sequence[str], main: str, has_changed: bool, actions: Actions) -> None:
    for place in (STATE, RUN):
        if place.exists() and not place.stat().st_mode & stat.S_IXOTH:
            # `up` made it for root alone; what it holds stays closed by itself.
            actions.take(f"chmod 711 {place}", partial(place.chmod, 0o711))
    to_enable = [unit for unit in units if not _is_enabled(unit)]
    if to_enable:
        actions.systemctl("enable", *to_enable)
    verb = "start" if not _is_active(main) else "restart" if has_changed else None
    if verb is not None:
        actions.take(f"systemctl {verb} {main}", lambda: _start_unit(verb, main))
    if not actions.taken:
        actions.tell(f"{main} is installed, enabled and running: nothing to do")


def _stop(units: Sequence[str], actions: Actions) -> None:
    for unit in units:
        if _is_active(unit) or _is_enabled(unit):
            actions.systemctl("disable", "--now", unit)
        if _answers("is-failed", unit):
            actions.systemctl("reset-failed", unit)


def _remove_names(instance: str, actions: Actions) -> None:
    """What punchtun-names@.service would do in a moment, if it were not stopped."""
    path, unit = (f"punchtun-names@{instance}.{kind}" for kind in ("path", "service"))
    if _is_active(path):
        actions.systemctl("stop", path, unit)
    if _answers("is-failed", unit):
        actions.systemctl("reset-failed", unit)
    with contextlib.suppress(OperatorError):  # Nothing of ours is where we may not write.
        hosts = HostsFile(STATE / instance, "")
        if hosts.has_block():
            actions.take(f"take the names of members out of {HOSTS}", hosts.close)
        hosts.leave()


def _remove_units(names: Iterable[str], actions: Actions) -> None:
    there = [UNITS / name for name in names if (UNITS / name).exists()]
    for path in there:
        actions.take(f"remove {path}", partial(_remove, path))
    if there:
        actions.systemctl("daemon-reload")


def _other_instances(instance: str) -> list[str]:
    enabled = (UNITS / "multi-user.target.wants").glob("punchtun@*.service")
    return [each.name for each in enabled if each.name != f"punchtun@{instance}.service"]


def _return_state(instance: str, home: Path, actions: Actions, *, purge: bool) -> None:
    path, private = STATE / instance, _PRIVATE / instance
    if not os.path.lexists(path):
        return
    if path.is_symlink():
        actions.take(f"give {path} back to root", lambda: service_state.give_back(path, private))
    if purge:
        actions.take(f"delete {path}", lambda: service_state.purge(path))
    elif home != path:
        actions.take(f"move the node in {path} to {home}", lambda: _move_home(path, home))


def _move_home(path: Path, home: Path) -> None:
    service_state.move_node(path, home)
    service_state.remove_left(path)


def _is_active(unit: str) -> bool:
    return _answers("is-active", unit)


def _is_enabled(unit: str) -> bool:
    return _answers("is-enabled", unit)


def _answers(question: str, unit: str) -> bool:
    return (
        subprocess.run(
            ["systemctl", "--quiet", question, unit], stderr=subprocess.DEVNULL
        ).returncode
        == 0
    )


def _start_unit(verb: str, unit: str) -> None:
    began = time.time()
    done = subprocess.run(["systemctl", verb, unit], stderr=subprocess.DEVNULL)
    if done.returncode != 0:
        since = ("--boot", f"--since=@{began:.6f}", "--output=cat", "--no-pager", "--identifier")
        said = subprocess.run(
            ["journalctl", f"--unit={unit}", *since, "punchtun"], stdout=subprocess.PIPE, text=True
        ).stdout.strip()
        raise OperatorError(f"{unit} does not start; see journalctl --unit={unit}. It says: {said}")


def _call_systemctl(arguments: Sequence[str]) -> None:
    done = subprocess.run(["systemctl", *arguments], stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise OperatorError(f"systemctl {' '.join(arguments)} failed: {done.stderr.strip()}")
