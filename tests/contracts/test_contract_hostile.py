"""A tracking server that lies: its answers end, are refused in a sentence, and get no secrets."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from ensgan.errors import StoreError
from ensgan.store import RunStore, open_store

RUN = "a" * 32


class Liar(BaseHTTPRequestHandler):
    """Answers as the class attributes say; ``asked`` holds what came, with its credentials."""

    run: ClassVar[dict[str, Any]] = {}
    listing: ClassVar[Any] = staticmethod(lambda path: [])
    runs: ClassVar[dict[str, Any]] = {}
    asked: ClassVar[list[tuple[str, str | None]]] = []

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Authorization")))
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        if path.endswith("runs/get"):
            info = {"run_id": RUN, "run_uuid": RUN, "experiment_id": "1", "status": "FINISHED"}
            location = f"mlflow-artifacts:/{RUN}/artifacts"
            value: Any = {"run": {"info": {**info, "artifact_uri": location, **self.run}}}
        elif path.endswith("runs/search"):
            value = self.runs
        elif path.endswith("experiments/search"):
            value = {"experiments": [{"experiment_id": "1", "name": "e"}]}
        else:
            folder = query.get("path", [""])[0].partition("/artifacts")[2].strip("/")
            value = {"files": type(self).listing(folder)}
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815 - the name that http.server looks for


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "SECRET-TOKEN")
    for name, value in {"run": {}, "listing": staticmethod(lambda path: []), "runs": {}}.items():
        monkeypatch.setattr(Liar, name, value)
    monkeypatch.setattr(Liar, "asked", [])
    listener = ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listener.server_port}"
    listener.shutdown()
    listener.server_close()


@pytest.fixture
def store(server: str) -> RunStore:
    return open_store(server)


@pytest.mark.parametrize(
    "entries",
    [
        [{"path": "deeper", "is_dir": True}],
        [{"path": f"{i}", "is_dir": True} for i in range(3)],
        [{"path": "../../out", "is_dir": False, "file_size": 4}],
        [{"path": "..", "is_dir": True}],
        [{"path": "/tmp/x", "is_dir": False, "file_size": 4}],
        [{"path": "x", "is_dir": False, "file_size": "NaN"}],
    ],
    ids=["depth", "breadth", "above", "parent", "absolute", "size"],
)
def test_listings_end_and_stay_in_their_folder(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, entries: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(Liar, "listing", staticmethod(lambda path: entries))
    with pytest.raises(StoreError) as caught:
        store.files(RUN)
    assert "\n" not in str(caught.value) and len(Liar.asked) < 300


@pytest.mark.parametrize(
    "run", [{"start_time": 10**18}, {"start_time": "x"}, {"artifact_uri": 5}, {"status": 7}]
)
def test_values_that_cannot_be_are_refused(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, run: dict[str, Any]
) -> None:
    monkeypatch.setattr(Liar, "run", run)
    with pytest.raises(StoreError, match=r"MLflow at http://127\.0\.0\.1:[0-9]+ failed: "):
        store.get(RUN)


@pytest.mark.parametrize("fresh_token", [False, True])
def test_lists_of_runs_end(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, fresh_token: bool
) -> None:
    class Endless(dict[str, Any]):
        pages = 0

        def items(self) -> Any:
            Endless.pages += 1
            return {"next_page_token": f"{Endless.pages if fresh_token else 0}", "runs": []}.items()

    monkeypatch.setattr("ensgan.store.remote.MOST_PAGES", 20)
    monkeypatch.setattr(Liar, "runs", Endless(x=1))
    with pytest.raises(StoreError, match="does not end"):
        store.find()
    assert Endless.pages <= 40


@pytest.mark.parametrize(
    "location", ["http://127.0.0.1:9/x", "https://localhost/x", "mlflow-artifacts://127.0.0.1:9/x"]
)
def test_credentials_go_to_no_other_host(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    monkeypatch.setattr(Liar, "run", {"artifact_uri": location})
    with pytest.raises(StoreError, match=r"another host than .*: your credentials are not sent"):
        store.files(RUN)
    assert {secret for _, secret in Liar.asked} == {"Bearer SECRET-TOKEN"}
    port = store.uri.rpartition(":")[2]
    monkeypatch.setattr(Liar, "run", {"artifact_uri": f"mlflow-artifacts://127.0.0.1:{port}/x"})
    assert store.files(RUN) == {}


@pytest.mark.parametrize(
    "address", ["http://u:SECRET@127.0.0.1:9", "http://127.0.0.1:9?key=SECRET"]
)
def test_no_message_shows_credentials(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    store = open_store(address)
    assert "SECRET" not in store.uri
    for ask in (store.find, lambda: store.get(RUN), lambda: store.files(RUN)):
        with pytest.raises(StoreError, match=r"127\.0\.0\.1:9") as caught:
            ask()
        assert "SECRET" not in str(caught.value)
