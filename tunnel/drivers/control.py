"""The control socket: how `punchtun status` and its like talk to the running process.

::

    client                                   server
      | {"command": "events", …}\\n            |    one request, at most 64 KiB
      |--------------------------------------->|
      | {…}\\n  {…}\\n  {…}\\n                   |    answers, as many as there are
      |<---------------------------------------|    close: that was all
      | {"error": "…", "exit_code": 4}\\n       |    or this, at last or alone
      |<---------------------------------------|

JSON, one object a line. A client that has enough closes. The socket is a file that only its owner
may open; whoever does may do everything.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
from gevent.server import StreamServer

from tunnel.errors import (
    NotRunning,
    OperatorError,
    PeerUnavailable,
    ServerUnreachable,
    UsageError,
)

log = logging.getLogger(__name__)

Body = dict[str, Any]
Answer = Callable[[Body], Iterator[Body] | Body]

_REQUEST_LENGTH = 65_536
_REQUEST_TIME = 5.0
"""Seconds a client has for its request."""
_CLIENTS = 64
_GRACE = 0.2
"""Seconds in which `close` lets answers end by themselves."""
_PATH_LENGTH = 107
"""Bytes of sun_path, less the terminating zero (unix(7))."""
_ERRORS = {
    kind.exit_code: kind
    for kind in (OperatorError, UsageError, PeerUnavailable, ServerUnreachable, NotRunning)
}


class ControlServer:
    """Answers requests, each client in a greenlet of its own, from `start` to `close`."""

    def __init__(self, path: str | Path, answer: Answer) -> None:
        """`answer` gets the request and returns the answer, or an iterator of answers, which may
        wait on gevent events between two of them and is closed when the client goes. OperatorErrors
        it raises reach the client."""
        self._path = Path(path)
        self._answer = answer
        self._server: Any = None

    def start(self) -> None:
        """Clients can connect once this returns. Raises OperatorError if another process is
        serving there."""
        with _reachable(self._path) as address:
            _remove_stale(self._path, address)
            listener = gevent.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                os.fchmod(listener.fileno(), 0o600)  # before bind: the file is never open to others
                listener.bind(address)
                listener.listen(_CLIENTS)
            except OSError as error:
                listener.close()
                raise OperatorError(
                    f"cannot open the control socket {self._path}: {error.strerror}"
                ) from error
        self._server = StreamServer(listener, self._serve, spawn=_CLIENTS)
        self._server.start()

    def close(self) -> None:
        """Ends what is being answered and removes the socket. A second time is harmless."""
        if self._server is None:
            return
        server, self._server = self._server, None
        with contextlib.suppress(OSError):
            self._path.unlink()
        server.stop(timeout=_GRACE)

    def _serve(self, client: Any, _address: Any) -> None:
        with contextlib.suppress(OSError), contextlib.closing(client):
            line = None
            with gevent.Timeout(_REQUEST_TIME, False):
                line = _read_request(client)
            if line is None:
                return
            answering = gevent.spawn(self._respond, client, line)
            departure = gevent.spawn(_wait_for_departure, client)
            try:
                gevent.wait([answering, departure], count=1)
            finally:
                gevent.killall([answering, departure])

    def _respond(self, client: Any, asked: bytes) -> None:
        answers: Iterator[Body] | Body | None = None
        try:
            answers = self._answer(_parsed(asked))
            for body in [answers] if isinstance(answers, dict) else answers:
                line = _line(body)
                try:
                    client.sendall(line)
                except OSError:
                    return  # the client is gone
        except OperatorError as error:
            _send_error(client, str(error), error.exit_code)
        except Exception as error:
            log.exception("a request on the control socket failed")
            text = f"punchtun made a mistake ({type(error).__name__}: {error}): its log has more"
            _send_error(client, text, OperatorError.exit_code)
        finally:
            close = getattr(answers, "close", None)
            if close is not None:
                close()


def request(
    path: str | Path, body: Body, timeout: float | None = None, who: str = "node"
) -> Iterator[Body]:
    """The answers to `body`, as they come. Blocks; needs no gevent on this side.

    `timeout`: seconds to wait for each, None for ever. `who` is meant to serve at `path`. Raises
    NotRunning if nobody does, and the error the answer tells of, with its exit code. Closing the
    iterator hangs up.
    """
    with _connected(Path(path), timeout) as server:
        try:
            server.sendall(_line(body))
            with server.makefile("rb") as lines:
                for line in lines:
                    if not line.endswith(b"\n"):
                        raise OperatorError(f"the {who} stopped while it was answering")
                    answer = json.loads(line)
                    if "error" in answer and "exit_code" in answer:
                        raise _error(answer)
                    yield answer
        except TimeoutError:
            raise OperatorError(
                f"the {who} does not answer within {timeout} s: see its log, or restart it"
            ) from None
        except (ConnectionError, ValueError) as error:
            raise OperatorError(f"the {who} stopped while it was answering: {error}") from error


@contextlib.contextmanager
def _connected(path: Path, timeout: float | None) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.settimeout(timeout)
        try:
            with _reachable(path) as address:
                server.connect(address)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            raise NotRunning(
                f"no node is running on {path.parent}: start it with `punchtun up`"
            ) from None
        except PermissionError:
            raise OperatorError(f"may not use {path}: run it with sudo") from None
        except OSError as error:
            raise OperatorError(f"cannot use {path}: {error}") from error
        yield server


def _error(answer: Body) -> OperatorError:
    code = int(answer["exit_code"])
    error = _ERRORS.get(code, OperatorError)(str(answer["error"]))
    error.exit_code = code
    return error


def _parsed(line: bytes) -> Body:
    try:
        body = json.loads(line)
    except ValueError as error:
        raise UsageError(f"the request is no JSON: {error}") from error
    if not isinstance(body, dict):
        raise UsageError("the request is no JSON object")
    return body


def _read_request(client: Any) -> bytes | None:
    """None: the client left, or says too much."""
    data = b""
    while b"\n" not in data:
        more = client.recv(4096)
        if not more:
            return None
        data += more
        if len(data) > _REQUEST_LENGTH:
            text = f"a request has at most {_REQUEST_LENGTH} bytes"
            _send_error(client, text, UsageError.exit_code)
            # Closing with something unread would take the error back (ECONNRESET).
            while b"\n" not in more and more:
                more = client.recv(4096)
            return None
    return data.partition(b"\n")[0]


def _wait_for_departure(client: Any) -> None:
    """Until the client closes. What it says meanwhile is not heard."""
    with contextlib.suppress(OSError):
        while client.recv(4096):
            pass


def _line(body: Body) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"


def _send_error(client: Any, text: str, exit_code: int) -> None:
    with contextlib.suppress(OSError):
        client.sendall(_line({"error": text, "exit_code": exit_code}))


def _remove_stale(path: Path, address: str) -> None:
    """A process that was killed leaves its socket behind; nobody listens on it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(address)
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            if not path.is_socket():
                raise OperatorError(f"{path} is no socket: move it away") from None
            path.unlink()
            return
        except BlockingIOError:
            pass  # somebody listens, and is busy
        except OSError as error:
            raise OperatorError(f"cannot open the control socket {path}: {error}") from error
    raise OperatorError(
        f"punchtun is already running on {path.parent}: stop it first, or use another --state-dir"
    )


@contextlib.contextmanager
def _reachable(path: Path) -> Iterator[str]:
    """An address for `path`, through its directory's descriptor where it is too long for one."""
    if len(os.fsencode(path)) <= _PATH_LENGTH:
        yield str(path)
        return
    try:
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise OperatorError(f"{path} is too long a path: use a shorter --state-dir") from None
        raise
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
