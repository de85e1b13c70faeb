"""The server runs in this thread's gevent hub, the blocking client in a real thread."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.queue import Queue

from tunnel.drivers.control import Body, ControlServer, request
from tunnel.errors import NotRunning, OperatorError, PeerUnavailable, UsageError

Serve = Callable[[Any], Path]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    servers = []

    def start(answer: Any) -> Path:
        server = ControlServer(tmp_path / "control", answer)
        server.start()
        servers.append(server)
        return tmp_path / "control"

    yield start
    for server in servers:
        server.close()
        server.close()
    assert not (tmp_path / "control").exists()


def in_thread(function: Callable[[], Any]) -> Any:
    with gevent.Timeout(20):
        return gevent.get_hub().threadpool.apply(function)


def ask(path: Path, body: Body, timeout: float | None = 10) -> list[Body]:
    result: list[Body] = in_thread(lambda: list(request(path, body, timeout)))
    return result


def raw(path: Path, data: bytes) -> bytes:
    """What the server says to `data`."""

    def talk() -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(path))
            client.sendall(data)
            with client.makefile("rb") as stream:
                return stream.read()

    said: bytes = in_thread(talk)
    return said


def test_one_answer(serve: Serve) -> None:
    path = serve(lambda body: {"you said": body})
    for body in ({}, {"command": "status", "ö": [1, None]}):
        assert ask(path, body) == [{"you said": body}]
    assert path.stat().st_mode & 0o777 == 0o600


def test_many_answers(serve: Serve) -> None:
    path = serve(lambda body: ({"n": n} for n in range(body["count"])))
    assert ask(path, {"count": 1000}) == [{"n": n} for n in range(1000)]
    assert ask(path, {"count": 0}) == []


def test_answers_come_as_they_are_made(serve: Serve) -> None:
    queue: Queue[Body] = Queue()
    path = serve(lambda _: iter(queue.get, {}))
    answers = request(path, {}, 10)
    for n in range(3):
        queue.put({"n": n})
        assert in_thread(lambda: next(answers)) == {"n": n}
    queue.put({})
    assert in_thread(lambda: list(answers)) == []


def test_a_client_that_leaves_ends_a_waiting_answer(serve: Serve) -> None:
    ended = Event()

    def answer(_: Body) -> Iterator[Body]:
        try:
            yield {"n": 0}
            Event().wait()
        finally:
            ended.set()

    answers = request(serve(answer), {}, 10)
    assert in_thread(lambda: next(answers)) == {"n": 0}
    in_thread(answers.close)  # type: ignore[attr-defined]
    assert ended.wait(10)


def test_a_client_that_does_not_read_blocks_nobody(serve: Serve) -> None:
    ended = Event()

    def answer(body: Body) -> Iterator[Body]:
        try:
            while body["forever"]:
                yield {"x": "x" * 1000}
            yield {"x": "short"}
        finally:
            if body["forever"]:
                ended.set()

    path = serve(answer)
    answers = request(path, {"forever": True}, 10)
    in_thread(lambda: next(answers))
    assert ask(path, {"forever": False}) == [{"x": "short"}]
    in_thread(answers.close)  # type: ignore[attr-defined]
    assert ended.wait(10)


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (OperatorError("no"), OperatorError, 1),
        (UsageError("no"), UsageError, 2),
        (PeerUnavailable("no"), PeerUnavailable, 4),
    ],
)
def test_errors_reach_the_client(
    serve: Serve, error: OperatorError, kind: type[OperatorError], code: int
) -> None:
    def at_once(_: Body) -> Body:
        raise error

    def later(_: Body) -> Iterator[Body]:
        yield {"n": 0}
        raise error

    serving = {"at once": at_once, "later": later}
    path = serve(lambda body: serving[body["when"]](body))
    for when in serving:
        with pytest.raises(kind, match="no") as failure:
            ask(path, {"when": when})
        assert (type(failure.value), failure.value.exit_code) == (kind, code)


def test_an_exit_code_of_its_own(serve: Serve) -> None:
    def answer(_: Body) -> Body:
        error = OperatorError("up, but relayed")
        error.exit_code = 3
        raise error

    with pytest.raises(OperatorError, match="relayed") as failure:
        ask(serve(answer), {})
    assert failure.value.exit_code == 3
    assert OperatorError.exit_code == 1


@pytest.mark.parametrize("result", [{"x": object()}, None, 5])
def test_a_mistake_of_ours_is_an_error_with_a_trace(
    serve: Serve, result: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(OperatorError, match="made a mistake"):
        ask(serve(lambda _: result), {})
    assert caplog.records[0].exc_info


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"not json\n", b"the request is no JSON"),
        (b"[1]\n", b"no JSON object"),
        (b"\xff\n", b"the request is no JSON"),
        (b"x" * 90_000 + b"\n", b"at most 65536 bytes"),
    ],
)
def test_bad_requests(serve: Serve, data: bytes, said: bytes) -> None:
    answer = raw(serve(lambda _: {}), data)
    assert said in answer
    assert b'"exit_code":2' in answer


def test_a_file_that_fails_is_no_client_that_left(serve: Serve) -> None:
    def answer(_: Body) -> Body:
        raise FileNotFoundError("the state")

    with pytest.raises(OperatorError, match="FileNotFoundError: the state"):
        ask(serve(answer), {})


def test_a_client_that_says_nothing(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunnel.drivers.control._REQUEST_TIME", 0.01)
    assert raw(serve(lambda _: {}), b'{"half": ') == b""


def test_nobody_runs(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match=f"no node is running on {tmp_path}.*punchtun up"):
        ask(tmp_path / "control", {})
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "control"))
    with pytest.raises(NotRunning):
        ask(tmp_path / "control", {})


def test_a_dead_socket_is_replaced(serve: Serve, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "control"))
        listener.listen()
    assert ask(serve(lambda _: {"new": True}), {}) == [{"new": True}]


def test_a_living_socket_is_not(serve: Serve) -> None:
    path = serve(lambda _: {"first": True})
    with pytest.raises(OperatorError, match="already running"):
        ControlServer(path, lambda _: {}).start()
    assert ask(path, {}) == [{"first": True}]


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "control").write_text("precious")
    with pytest.raises(OperatorError, match="no socket"):
        ControlServer(tmp_path / "control", lambda _: {}).start()
    assert (tmp_path / "control").read_text() == "precious"


def test_a_long_path(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 200)
    directory.mkdir()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        server = ControlServer(directory / "control", lambda _: {"far": True})
        server.start()
        assert ask(directory / "control", {}) == [{"far": True}]
        with pytest.raises(OperatorError, match="already running"):
            ControlServer(directory / "control", lambda _: {}).start()
        server.close()
        with pytest.raises(NotRunning):
            ask(directory / "control", {})
    assert len(os.listdir("/proc/self/fd")) <= before + 3  # gevent's own, made once
    with pytest.raises(NotRunning):
        ask(tmp_path / ("e" * 200) / "control", {})


def test_a_node_that_does_not_answer_in_time(serve: Serve) -> None:
    path = serve(lambda _: iter(Event().wait, None))
    with pytest.raises(OperatorError, match="does not answer within"):
        ask(path, {}, timeout=0.05)


def test_a_node_that_stops_while_answering(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "control"))
        listener.listen()

        def stop() -> None:
            client, _ = listener.accept()
            client.recv(99)
            client.sendall(b'{"half": ')
            client.close()

        pool = gevent.get_hub().threadpool
        stopping = pool.spawn(stop)
        with pytest.raises(OperatorError, match="stopped while"):
            ask(tmp_path / "control", {})
        stopping.get()


def test_closing_ends_what_is_being_answered(tmp_path: Path) -> None:
    started, ended = Event(), Event()

    def answer(_: Body) -> Iterator[Body]:
        try:
            started.set()
            yield {}
            Event().wait()
        finally:
            ended.set()

    server = ControlServer(tmp_path / "control", answer)
    server.start()
    client = gevent.spawn(ask, tmp_path / "control", {})
    assert started.wait(10)
    server.close()
    assert ended.is_set()
    assert client.get(timeout=10) == [{}]
