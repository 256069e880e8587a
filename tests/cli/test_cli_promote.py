"""A promoted ensemble: by its alias, and in plain MLflow."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest
from commands import as_json, call
from PIL import Image
from servers import MLFLOW_SETTINGS, free_port, serving

from ensgan.ensemble import load_ensemble
from ensgan.errors import InputError
from ensgan.types import Samples


def test_promote_then_pull_by_alias(storage: Path, run_id: str, tmp_path: Path) -> None:
    value = as_json("promote", run_id, "--storage", storage)
    assert value == {
        "model": "ensgan-phantom",
        "version": 1,
        "alias": "champion",
        "use": "models:/ensgan-phantom@champion",
    }
    again = as_json("promote", run_id, "--alias", "other", "--storage", storage)
    assert again["version"] == 1
    for address in (value["use"], "models:/ensgan-phantom/1", "models:/ensgan-phantom@other"):
        assert load_ensemble(address, storage=storage).member_names == ("A@1", "B@2")
    assert as_json("verify", value["use"], "--storage", storage)["unlisted"] == []
    pulled = as_json("pull", value["use"], "-o", tmp_path / "out", "--storage", storage)
    assert pulled["run_id"] == run_id
    for address in ("models:/ensgan-phantom@absent", "models:/none@champion", "models:/x/9"):
        with pytest.raises(InputError, match="nothing is registered"):
            call("pull", address, "-o", tmp_path / "no", "--storage", storage)
    with pytest.raises(InputError, match="is no model"):
        call("pull", "models:/a/b/c", "-o", tmp_path / "no", "--storage", storage)
    with pytest.raises(InputError, match="cannot be an alias"):
        call("promote", run_id, "--alias", "v1", "--storage", storage)
    with pytest.raises(InputError, match="cannot name a model"):
        call("promote", run_id, "--name", "a' or 1=1", "--storage", storage)


@pytest.mark.slow
def test_plain_mlflow_loads_a_promoted_ensemble(storage: Path, run_id: str) -> None:
    as_json("promote", run_id, "--storage", storage)
    code = (
        "import json, mlflow\n"
        f"mlflow.set_tracking_uri('sqlite:///{storage}/mlflow.db')\n"
        "model = mlflow.pyfunc.load_model('models:/ensgan-phantom@champion')\n"
        "print(json.dumps(model.predict({'n': 5, 'seed': 3})))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **MLFLOW_SETTINGS},
    )
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout.splitlines()[-1])
    same_images(rows, load_ensemble(run_id, storage=storage).sample(5, seed=3))


@pytest.mark.slow
def test_mlflow_serves_a_promoted_ensemble(storage: Path, run_id: str, tmp_path: Path) -> None:
    as_json("promote", run_id, "--storage", storage)
    port = free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "models", "serve"),
        *("-m", "models:/ensgan-phantom@champion", "--env-manager", "local"),
        *("--host", "127.0.0.1", "--port", port),
    ]
    settings = {
        **MLFLOW_SETTINGS,
        "MLFLOW_TRACKING_URI": f"sqlite:///{storage}/mlflow.db",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    wanted = load_ensemble(run_id, storage=storage).sample(4, [0, 1, 1, 0], seed=3)
    request = {"n": 4, "labels": [0, 1, 1, 0], "seed": 3}
    address = f"http://127.0.0.1:{port}"
    with serving(command, f"{address}/ping", tmp_path, **settings):
        for body in ({"inputs": request}, {"dataframe_records": [request]}):
            same_images(invoke(address, body), wanted)


def invoke(address: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """What MLflow's model server predicts."""
    headers = {"Content-Type": "application/json"}
    request = Request(f"{address}/invocations", json.dumps(body).encode(), headers)
    with urlopen(request, timeout=120) as answer:
        rows: list[dict[str, Any]] = json.loads(answer.read())["predictions"]
    return rows


def same_images(rows: list[dict[str, Any]], wanted: Samples) -> None:
    assert wanted.members is not None
    assert [row["label"] for row in rows] == wanted.labels.tolist()
    assert [row["member"] for row in rows] == [wanted.member_names[i] for i in wanted.members]
    for row, image in zip(rows, wanted.images, strict=True):
        made = np.asarray(Image.open(io.BytesIO(base64.b64decode(row["image"]))))
        assert np.array_equal(made, image)
