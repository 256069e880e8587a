"""``ensgan doctor``: what is missing on this machine is said before anything is started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
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
