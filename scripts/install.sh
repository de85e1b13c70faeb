#!/bin/sh
# Installs punchtun for the whole machine, or upgrades what it installed before: a virtual environment
# in /opt/punchtun, and the command in /usr/local/bin. Services that run are started again.
#
#   sudo scripts/install.sh [--from PACKAGE] [--prefix DIR] [--dry-run]
#   sudo scripts/install.sh --remove [--purge] [--prefix DIR] [--dry-run]
#
#   --from PACKAGE   a wheel, a directory or whatever else pip takes; this checkout otherwise
#   --prefix DIR     instead of /opt/punchtun
#   --remove         services, command and environment; what was set up stays, as root's
#   --purge          that too: keys, networks, all of /var/lib/punchtun
#   --dry-run        only tell what would be done
#
# Debian, Ubuntu, Raspberry Pi OS, Fedora and its kin, Alpine; elsewhere once Python 3.10 or newer with
# venv is there. It is given no secrets: networks are joined afterwards, by `punchtun up`.
set -eu
umask 022

prefix=/opt/punchtun
command=/usr/local/bin/punchtun
units=/etc/systemd/system
state=/var/lib/punchtun
os_release=${PUNCHTUN_OS_RELEASE:-/etc/os-release}
package="" remove="" purge="" dry_run=""

die() {
    echo "install.sh: $*" >&2
    exit 1
}

# do_it COMMAND ...: shown, and run unless it is a rehearsal.
do_it() {
    echo "+ $*"
    [ -n "$dry_run" ] || "$@"
}

while [ $# -gt 0 ]; do
    case "$1" in
        --from | --prefix)
            [ $# -ge 2 ] || die "$1 wants a value"
            if [ "$1" = --from ]; then package=$2; else prefix=${2%/}; fi
            shift
            ;;
        --remove) remove=yes ;;
        --purge) purge=yes ;;
        --dry-run) dry_run=yes ;;
        -h | --help)
            sed -n '2,15s/^# \{0,1\}//p' "$0"
            exit
            ;;
        *) die "unknown argument; see --help" ;; # Not repeated: it may be a join string.
    esac
    shift
done
case "$prefix" in
    /*/*) ;;
    *) die "--prefix wants the absolute path of a directory of its own, as /opt/punchtun" ;;
esac
[ -z "$purge" ] || [ -n "$remove" ] || die "--purge goes with --remove"
[ -n "$dry_run" ] || [ "$(id -u)" -eq 0 ] || die "this is for root: sudo $0"

is_ours() {
    [ -f "$prefix/pyvenv.cfg" ]
}

# Names of the services that `punchtun service install` has put here, as arguments for it.
services() {
    [ ! -e "$units/punchtun-server.service" ] || echo server
    for link in "$units"/multi-user.target.wants/punchtun@*.service; do
        [ -L "$link" ] || continue
        name=${link##*/punchtun@}
        name=${name%.service}
        if [ "$name" = default ]; then echo node; else echo "node $name"; fi
    done
}

# unit KIND [NAME]
unit() {
    if [ "$1" = server ]; then
        echo punchtun-server.service
    else
        echo "punchtun@${2:-default}.service"
    fi
}

# Services see no home directories: a Python that one user has installed for himself is none for them.
is_suitable() {
    "$1" -c 'import ensurepip, ssl, sys, venv
sys.exit(sys.version_info < (3, 10) or sys.base_prefix.startswith(("/home/", "/root/")))' \
        > /dev/null 2>&1
}

find_python() {
    for python in python3 /usr/bin/python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
        if command -v "$python" > /dev/null && is_suitable "$python"; then
            command -v "$python"
            return
        fi
    done
    return 1
}

# python-pytun has wheels for x86-64 with glibc only.
wants_compiler() {
    [ "$family" = alpine ] || [ "$(uname -m)" != x86_64 ]
}

install_packages() {
    case "$family" in
        debian)
            more=""
            ! wants_compiler || more="gcc libc6-dev python3-dev"
            do_it env DEBIAN_FRONTEND=noninteractive apt-get update -q
            # shellcheck disable=SC2086
            do_it env DEBIAN_FRONTEND=noninteractive \
                apt-get install -yq --no-install-recommends python3 python3-venv $more
            ;;
        fedora)
            more=""
            ! wants_compiler || more="gcc python3-devel"
            # shellcheck disable=SC2086
            do_it dnf install -y python3 python3-pip $more
            ;;
        alpine) do_it apk add python3 py3-pip gcc musl-dev linux-headers python3-dev libffi-dev ;;
        *) die "install Python 3.10 or newer with its venv module first, then run this again" ;;
    esac
}

find_family() {
    id="" id_like=""
    if [ -r "$os_release" ]; then
        # shellcheck disable=SC1090
        id=$(. "$os_release" && echo "${ID:-}")
        # shellcheck disable=SC1090
        id_like=$(. "$os_release" && echo "${ID_LIKE:-}")
    fi
    case " $id $id_like " in
        *" debian "* | *" ubuntu "* | *" raspbian "*) family=debian ;;
        *" fedora "* | *" rhel "*) family=fedora ;;
        *" alpine "*) family=alpine ;;
        *) family=unknown ;;
    esac
}

install_or_upgrade() {
    [ ! -e "$prefix" ] || is_ours ||
        die "$prefix is there and is no virtual environment: choose another --prefix"
    if [ -e "$command" ] || [ -L "$command" ]; then
        [ "$(readlink "$command")" = "$prefix/bin/punchtun" ] ||
            die "$command is there and not ours: remove that installation first"
    fi
    find_family
    python=$(find_python) || python=""
    if [ -z "$python" ] || { wants_compiler && ! command -v gcc > /dev/null; }; then
        install_packages
        python=$(find_python) || [ -n "$dry_run" ] ||
            die "this system has no Python 3.10 or newer with the venv module"
    fi
    if [ -z "$package" ]; then
        package=$(cd "$(dirname "$0")/.." && pwd)
        [ -f "$package/setup.py" ] || die "there is no checkout around this script: --from PACKAGE"
    fi
    is_ours || do_it "${python:-python3}" -m venv "$prefix"
    do_it "$prefix/bin/python" -m pip install --disable-pip-version-check --no-input --quiet \
        --root-user-action=ignore --upgrade "$package"
    # The version may be the same, as in a checkout that has moved on.
    do_it "$prefix/bin/python" -m pip install --disable-pip-version-check --no-input --quiet \
        --root-user-action=ignore --force-reinstall --no-deps "$package"
    do_it mkdir -p "${command%/*}"
    do_it ln -sfn "$prefix/bin/punchtun" "$command"
    services | while read -r kind name; do
        do_it "$prefix/bin/punchtun" service install "$kind" ${name:+"$name"} < /dev/null
        do_it systemctl try-restart "$(unit "$kind" "$name")" < /dev/null
    done
    [ -n "$dry_run" ] || "$command" --version
    [ -d /run/systemd/system ] ||
        echo "systemd does not run here: let your init system start punchtun server run, punchtun up"
}

take_away() {
    if ! is_ours || [ ! -x "$prefix/bin/punchtun" ]; then
        die "there is no punchtun in $prefix"
    fi
    services | while read -r kind name; do
        do_it "$prefix/bin/punchtun" service uninstall "$kind" ${name:+"$name"} ${purge:+--purge} \
            < /dev/null
    done
    [ ! -L "$command" ] || [ "$(readlink "$command")" != "$prefix/bin/punchtun" ] ||
        do_it rm "$command"
    do_it rm -rf "$prefix"
    [ -z "$purge" ] || do_it rm -rf "$state" /run/punchtun
}

if [ -n "$remove" ]; then take_away; else install_or_upgrade; fi
