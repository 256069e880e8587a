"""The HTTP service, as a real server on a loopback port."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import io
import itertools
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ensgan.ensemble import load_ensemble
from ensgan.ensemble import service as service_module
from ensgan.ensemble.service import LARGEST_BODY, MOST_CONNECTIONS, make_app, server_for

TOKEN = "a-secret-of-the-tests"


@pytest.fixture(scope="module")
def port(intact: Path) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = int(probe.getsockname()[1])
    app = make_app(load_ensemble(intact), token=TOKEN, largest=40)
    server = server_for(app, "127.0.0.1", free)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield free
    server.should_exit = True
    thread.join(10)


def ask(
    port: int,
    path: str = "/sample",
    body: Any = None,
    *,
    method: str = "POST",
    token: str | None = TOKEN,
    **headers: str,
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Content-Type": "application/json", **headers}
    if token is not None:
        sent["Authorization"] = f"Bearer {token}"
    try:
        connection.request(method, path, content if method == "POST" else None, sent)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_the_same_images_as_from_python(port: int, intact: Path) -> None:
    from PIL import Image

    wanted = load_ensemble(intact).sample(6, seed=4)
    status, content = ask(port, body={"n": 6, "seed": 4})
    value = json.loads(content)
    assert status == 200
    assert value["labels"] == wanted.labels.tolist()
    assert value["members"] == [wanted.member_names[i] for i in wanted.members]
    for text, image in zip(value["images"], wanted.images, strict=True):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))), image)
    status, content = ask(port, body={"n": 2, "labels": [1, 0], "format": "npz"})
    assert status == 200
    assert np.load(io.BytesIO(content), allow_pickle=False)["labels"].tolist() == [1, 0]


def test_description_and_health(port: int) -> None:
    assert ask(port, "/health", method="GET", token=None) == (200, b'{"status":"ok"}')
    status, content = ask(port, "/ensemble", method="GET")
    assert status == 200
    assert json.loads(content)["classes"] == ["normal", "pneumonia"]
    schema = json.loads(ask(port, "/openapi.json", method="GET", token=None)[1])
    body = schema["paths"]["/sample"]["post"]["requestBody"]["content"]["application/json"]
    assert set(body["schema"]["properties"]) == {"n", "labels", "seed", "replacement", "format"}


def test_nothing_needs_another_host(port: int) -> None:
    """FastAPI's pages would load scripts from elsewhere; openapi.json says the same."""
    status, content = ask(port, "/openapi.json", method="GET", token=None)
    assert status == 200 and "//" not in content.decode()
    for path in ("/docs", "/redoc", "/docs/oauth2-redirect"):
        assert ask(port, path, method="GET", token=None)[0] == 404


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "x", "é"])
def test_a_missing_or_wrong_token(port: int, token: str | None) -> None:
    for path, method in (("/sample", "POST"), ("/ensemble", "GET")):
        if token == "é":
            status, _ = ask(
                port, path, {"n": 1}, method=method, token=None, Authorization="Bearer é"
            )
        else:
            status, _ = ask(port, path, {"n": 1}, method=method, token=token)
        assert status == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b"\xff\xfe", 422),
        (b"[" * 500_000, 422),
        (b'{"n": 1, "n": 2}', 422),
        (b"[]", 422),
        ({}, 422),
        ({"n": 0}, 422),
        ({"n": 10**9}, 422),
        ({"n": 41}, 422),
        ({"n": 10**400}, 422),
        ({"n": "3"}, 422),
        ({"n": 1.5}, 422),
        ({"n": True}, 422),
        ({"n": 2, "labels": [0]}, 422),
        ({"n": 1, "labels": [7]}, 422),
        ({"n": 1, "labels": [-1]}, 422),
        ({"n": 1, "labels": [10**30]}, 422),
        ({"n": 1, "labels": ["0"]}, 422),
        ({"n": 1, "seed": -1}, 422),
        ({"n": 1, "seed": 2**63}, 422),
        ({"n": 1, "format": "pickle"}, 422),
        ({"n": 1, "path": "/etc/passwd"}, 422),
        (b" " * (LARGEST_BODY + 1), 413),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_requests_are_refused_cleanly(port: int, body: Any, status: int) -> None:
    found, content = ask(port, body=body)
    assert found == status
    assert b"Traceback" not in content
    assert len(content) < 500


def test_other_content_types_hosts_and_methods(port: int) -> None:
    assert ask(port, body={"n": 1}, **{"Content-Type": "text/plain"})[0] == 415
    assert ask(port, body={"n": 1}, **{"Content-Type": "Application/JSON; charset=utf-8"})[0] == 200
    assert ask(port, body={"n": 1}, Host="evil.example")[0] == 400
    assert ask(port, method="GET")[0] == 405
    assert ask(port, "/../../etc/passwd", method="GET")[0] == 404


def test_a_slow_client_is_cut_off(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "PATIENCE", 0.3)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(
            f"POST /sample HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {TOKEN}\r\n"
            "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{".encode()
        )
        answer = client.recv(1000)
    assert answer.startswith(b"HTTP/1.1 408")
    assert ask(port, "/health", method="GET")[0] == 200


def test_a_client_that_leaves_is_no_error(port: int, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("uvicorn.error").addHandler(caplog.handler)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(
            f"POST /sample HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {TOKEN}\r\n"
            "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{".encode()
        )
        time.sleep(0.2)
    assert ask(port, body={"n": 1})[0] == 200
    assert caplog.text == ""


def test_a_client_that_drips_its_body_is_cut_off(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "PATIENCE", 0.5)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(
            f"POST /sample HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {TOKEN}\r\n"
            "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n".encode()
        )
        client.settimeout(0.1)
        for _ in range(200):  # every piece comes in time, the whole never does
            try:
                client.sendall(b" ")
                answer = client.recv(1000)
                break
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408")


def test_idle_connections_do_not_lock_others_out(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "PATIENCE", 0.5)
    idle = [
        socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(MOST_CONNECTIONS)
    ]
    try:
        for client in idle:
            client.sendall(b"POST /sample HTTP/1.1\r\nX-Slow: ")
        for client in idle:
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(100) == b""  # the server has hung up
        assert ask(port, "/health", method="GET")[0] == 200
    finally:
        for client in idle:
            client.close()


@pytest.mark.parametrize("reads", [False, True])
def test_an_answer_that_nobody_reads_is_given_up(
    monkeypatch: pytest.MonkeyPatch, reads: bool
) -> None:
    import uvicorn
    from uvicorn.server import ServerState

    monkeypatch.setattr(service_module, "PATIENCE", 0.1)
    unread = iter(range(10**6, 0, -1)) if reads else itertools.repeat(10**6)

    async def scenario() -> bool:
        config = uvicorn.Config(lambda: None, http=service_module.ImpatientProtocol)
        config.load()
        connection = service_module.ImpatientProtocol(config, ServerState(), {})
        transport = MagicMock(
            **{
                "get_extra_info.return_value": None,
                "get_write_buffer_size.side_effect": lambda: next(unread),
            }
        )
        connection.connection_made(transport)
        # Not cut off for its headers: they are complete.
        connection.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(20 if reads else 500):  # a busy machine looks later
            await asyncio.sleep(0.02)
            if transport.abort.called:
                break
        connection.connection_lost(None)
        return bool(transport.abort.called)

    assert asyncio.run(scenario()) is not reads


def test_as_many_clients_as_wait_are_served_and_the_rest_is_told(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadPoolExecutor(64) as threads:
        answers = list(
            threads.map(lambda seed: ask(port, body={"n": 1, "seed": seed})[0], range(64))
        )
    assert answers == [200] * 64
    monkeypatch.setattr(service_module, "MOST_WAITING", 3)
    making = service_module.Service._make
    monkeypatch.setattr(
        service_module.Service, "_make", lambda *given: (time.sleep(0.3), making(*given))[1]
    )
    with ThreadPoolExecutor(8) as threads:
        answers = sorted(threads.map(lambda _: ask(port, body={"n": 1})[0], range(8)))
        assert ask(port, "/health", method="GET")[0] == 200
    assert answers == [200] * 4 + [503] * 4
    assert ask(port, body={"n": 1})[0] == 200


def test_a_body_without_length_is_bounded(port: int) -> None:
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(
            f"POST /sample HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {TOKEN}\r\n"
            "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )
        try:
            for _ in range(40):
                client.sendall(chunk)
        except OSError:
            pass  # the server has hung up already, as it should
        try:
            answer = client.recv(1000)
        except OSError:
            answer = b"HTTP/1.1 413"
    assert answer.startswith(b"HTTP/1.1 413")


@given(
    st.binary(max_size=80)
    | st.recursive(
        st.none() | st.booleans() | st.integers(-5, 50) | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["n", "labels", "seed", "format"]), inner, max_size=4)
        ),
        max_leaves=6,
    )
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_request_breaks_the_service(port: int, body: Any) -> None:
    assert ask(port, body=body)[0] in (200, 422)
