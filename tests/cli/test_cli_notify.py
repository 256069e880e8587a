"""``ensgan sweep --notify``: one JSON object at the end, over addresses nobody else can read."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from bank_sweep import write_bank_sweep

from ensgan.cli.app import load_command
from ensgan.errors import InputError, StoreError, SweepStoppedError
from ensgan.launch.finished import check_receiver, notifying
from ensgan.sweep.events import Event


class Server:
    """Takes what is posted on the loopback."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.code = 200
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                server.got.append(json.loads(self.rfile.read(length)))
                self.send_response(server.code)
                if server.code == 302:
                    self.send_header("Location", f"{server.url}/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def test_a_finished_sweep_and_one_that_cannot_begin(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    file = write_bank_sweep(tmp_path)
    words = [str(file), "--address", "none", "--storage", str(tmp_path / "s")]
    words += ["--notify", server.url + "/hook", "--json"]
    load_command("sweep").main(words, standalone_mode=False)
    (message,) = server.got
    assert (message["sweep"], message["state"], message["members"]) == ("banks", "finished", 3)
    assert message["run_id"] and message["selected"]["members"] and message["seconds"] > 0
    with pytest.raises(InputError):
        load_command("sweep").main([*words, "--set", "seed=x"], standalone_mode=False)
    assert server.got[1]["state"] == "failed" and "seed" in server.got[1]["error"]


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (SweepStoppedError("stopped"), "stopped"),
        (KeyboardInterrupt(), "interrupted"),
        (StoreError("no space"), "failed"),
    ],
)
def test_however_it_ends(server: Server, error: BaseException, state: str) -> None:
    with (
        pytest.raises(type(error)),
        notifying(server.url, "file", lambda event: None) as (_, on_event),
    ):
        on_event(Event("folder", {"path": "/storage/sweeps/mine"}))
        raise error
    assert [(one["sweep"], one["state"]) for one in server.got] == [("mine", state)]


@pytest.mark.parametrize("code", [302, 404, 500])
def test_what_does_not_arrive_is_a_warning(server: Server, code: int) -> None:
    server.code, events = code, []
    with notifying(f"{server.url}/services/SECRET", "mine", events.append):
        pass
    (warning,) = (event.fields["message"] for event in events)
    assert "127.0.0.1 was not told" in warning and "SECRET" not in warning
    assert len(server.got) == 1, "redirections are not followed"


@pytest.mark.parametrize(
    "url", ["http://example.org/x", "ftp://127.0.0.1/", "127.0.0.1:80", "https://", "http://[::1"]
)
def test_addresses_that_others_could_read(url: str) -> None:
    with pytest.raises(InputError, match="--notify"):
        check_receiver(url)


@pytest.mark.parametrize("url", ["https://example.org/x", "http://127.0.0.1:1", "http://[::1]:2"])
def test_addresses_that_are_taken(url: str) -> None:
    check_receiver(url)
