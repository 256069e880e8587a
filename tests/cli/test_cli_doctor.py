"""``ensgan doctor``: what is missing on this machine is said before anything is started."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from servers import free_port
from typer.testing import CliRunner

from ensgan.cli.app import app


def look(monkeypatch: pytest.MonkeyPatch, *words: str, **environment: str) -> tuple[int, Any]:
    for name in ("ENSGAN_DATA", "ENSGAN_TOKEN", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(app, ["doctor", "--json", *words])
    value = json.loads(done.stdout)
    return done.exit_code, {row["what"]: (row["state"], row["detail"]) for row in value["findings"]}


def test_a_sound_machine_is_called_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, findings = look(monkeypatch, "--storage", str(tmp_path / "new"))
    assert code == 0
    assert findings["torch"][0] == "ok"
    assert findings["storage"][0] == "ok"
    formats = "is float32 on cpu", "is bfloat16 on cpu"  # the second with AMX
    assert findings["precision: auto"][1].startswith(formats)
    assert str(tmp_path / "new") in findings["storage"][1]
    assert not (tmp_path / "new").exists()


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    address = f"http://user:secret@127.0.0.1:{free_port()}"
    (tmp_path / "file").write_text("")
    code, findings = look(
        monkeypatch,
        *("--storage", str(tmp_path / "file" / "runs")),
        ENSGAN_DATA=str(tmp_path / "nowhere"),
        ENSGAN_TOKEN="",
        MLFLOW_TRACKING_URI=address,
    )
    assert code == 1
    assert findings["storage"][0] == "problem"
    assert findings["data"] == ("problem", f"ENSGAN_DATA is {tmp_path}/nowhere, which is no folder")
    assert findings["tracking"][0] == "problem"
    assert "secret" not in str(findings)
    assert findings["tokens"][0] == "note"


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
@pytest.mark.parametrize(("cuda", "what_to_do"), [(None, "CUDA build"), ("13.0", "driver")])
def test_a_card_that_torch_cannot_use(
    cuda: str | None, what_to_do: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(torch.version, "cuda", cuda)
    state, detail = look(monkeypatch)[1]["GPU"]
    assert state == "problem" and what_to_do in detail


def test_no_compiler_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ensgan.train.settings.lacks_compiler", lambda: True)
    assert look(monkeypatch)[1]["compile"][0] == "note"


def test_people_see_no_markup() -> None:
    said = CliRunner(env={"ENSGAN_DATA": "[bold]here"}).invoke(app, ["doctor"]).stdout
    assert "[bold]here" in said and "[red]" not in said and "[/]" not in said


def test_a_server_is_asked_without_the_credentials_of_its_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.path} {self.headers['Authorization']}")
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answers)
    Thread(target=server.handle_request, daemon=True).start()
    address = f"http://user:secret@127.0.0.1:{server.server_port}/base"
    _, findings = look(monkeypatch, "--uri", address)
    assert findings["tracking"] == ("ok", f"http://127.0.0.1:{server.server_port} answers")
    assert asked == ["/base/health None"]


@pytest.mark.parametrize(
    "address", ["http://h:99999", "http://[::1", "http://a b", "http://:x@", "foo://h", "h"]
)
def test_addresses_that_are_none_are_a_problem(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, findings = look(monkeypatch, "--uri", address)
    assert findings["tracking"][0] == "problem"
