"""The Debian that containers boot, made once and kept; and the packages to install in it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
KEPT = Path("/var/tmp/punchtun-tests")
"""Of the machine, so that it outlives the checkout."""
PACKAGES = (
    "systemd,systemd-sysv,dbus,python3,python3-venv,iproute2,iputils-ping,procps,ca-certificates,"
    "netbase,openssh-client"
)

_BUILT_FROM = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")
BUILD_NEEDS = ("setuptools>=64", "wheel")
"""What pip builds a checkout with, in a container that reaches no registry."""


def debian() -> Path:
    """A minimal Debian. The first call on a machine takes minutes; its mirror is the machine's."""
    KEPT.mkdir(mode=0o700, exist_ok=True)
    if KEPT.stat().st_uid != 0 or KEPT.stat().st_mode & 0o022:
        raise RuntimeError(f"{KEPT} is not root's alone: remove it")
    suite, mirror = _source()
    key = hashlib.sha256(f"{suite} {PACKAGES}".encode()).hexdigest()[:12]
    tree = KEPT / f"debian-{key}"
    with (KEPT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tree.is_dir():
            unfinished = tree.with_suffix(".new")
            shutil.rmtree(unfinished, ignore_errors=True)
            _bootstrap(suite, mirror, unfinished)
            unfinished.rename(tree)
    return tree


def _bootstrap(suite: str, mirror: str, target: Path) -> None:
    # What it mounts is gone when it is killed, and it is gone when we are.
    apart = ["setpriv", "--pdeathsig", "TERM", "unshare", "--mount", "--propagation", "private"]
    command = [*apart, "debootstrap", "--variant=minbase", f"--include={PACKAGES}"]
    # It does not know apt's settings by itself.
    proxy = _apt_setting("Acquire::http::Proxy")
    env = os.environ | ({"http_proxy": proxy} if proxy else {})
    done = subprocess.run(
        [*command, suite, str(target), mirror],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"debootstrap failed:\n{done.stdout[-3000:]}")
    for left in ("var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(target / left, ignore_errors=True)
    (target / "etc/machine-id").write_text("")


def _source() -> tuple[str, str]:
    """Suite and mirror that the machine itself comes from."""
    release = dict(
        line.split("=", 1)
        for line in Path("/etc/os-release").read_text().splitlines()
        if "=" in line
    )
    suite = release["VERSION_CODENAME"].strip('"')
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)"],
        capture_output=True,
        text=True,
        check=True,
    )
    for line in listed.stdout.splitlines():
        codename, _, uri = line.partition(" ")
        if codename == suite:
            return suite, uri
    raise RuntimeError(f"apt knows no mirror of {suite} on this machine: run apt-get update")


def _apt_setting(name: str) -> str:
    shell = subprocess.run(
        ["apt-config", "shell", "value", name], capture_output=True, text=True, check=True
    ).stdout
    return shell.partition("=")[2].strip().strip("'")


def copy_checkout(into: Path) -> Path:
    """What `git clone` would make, as far as installing needs it."""
    for name in ("tunnel", "scripts", "docs/man"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, into / name, symlinks=True, ignore=ignored)
    for name in _BUILT_FROM:
        shutil.copy(ROOT / name, into)
    return into


def build_wheel(into: Path, version: str | None = None) -> Path:
    """This checkout as a wheel, as if it had another version where one is given."""
    source = into / "source"
    shutil.copytree(ROOT / "tunnel", source / "tunnel")
    for name in _BUILT_FROM:
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "docs/man", source / "docs/man")
    if version is not None:
        init = source / "tunnel/__init__.py"
        lines = init.read_text().splitlines(keepends=True)
        init.write_text(
            "".join(
                f'__version__ = "{version}"\n' if line.startswith("__version__ =") else line
                for line in lines
            )
        )
    _pip("wheel", "--no-deps", "--wheel-dir", str(into), str(source))
    shutil.rmtree(source)
    return next(into.glob("punchtun-*.whl"))


def download_needed(tree: Path, wheel: Path, into: Path) -> None:
    """What the wheel needs, for the Python of `tree`, by the machine's pip as it is set up."""
    python = next(each for each in sorted((tree / "usr/bin").glob("python3.*")))
    processor = platform.machine()
    platforms = [f"manylinux2014_{processor}", f"linux_{processor}"]
    platforms += [f"manylinux_2_{minor}_{processor}" for minor in range(17, 37)]
    _pip(
        *("download", "--only-binary=:all:", "--dest", str(into)),
        *("--python-version", python.name.removeprefix("python")),
        *(f"--platform={each}" for each in platforms),
        str(wheel),
        *BUILD_NEEDS,
    )


def _pip(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"pip {arguments[0]} failed:\n{done.stderr[-3000:]}")


if __name__ == "__main__":
    debian()
