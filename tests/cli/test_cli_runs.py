from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from ensgan.cli.app import app
from ensgan.cli.runs import parse_labels
from ensgan.ensemble import (
    TAG_DIGEST,
    MemberSource,
    ensemble_digest,
    load_ensemble,
    write_bank,
    write_ensemble,
)
from ensgan.errors import EnsganError, InputError, IntegrityError
from ensgan.store import open_store
from ensgan.types import ImageShape, Samples


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ensemble of two sample banks."""
    here = tmp_path_factory.mktemp("banks")
    rng = np.random.default_rng(0)
    sources = []
    for name in ("A@1", "B@2"):
        images = rng.integers(0, 256, (120, 8, 8), dtype=np.uint8)
        path = write_bank(here / f"{name}.st", Samples(images, np.arange(120, dtype=np.int64) % 2))
        sources.append(MemberSource(name, 1.0, path, kind="bank"))
    return write_ensemble(
        here / "ensemble",
        members=sources,
        shape=ImageShape(1, 8),
        class_names=["normal", "pneumonia"],
        class_shares=[0.5, 0.5],
        metrics={"intra_d": 0.8},
        dataset={"name": "phantom"},
        extractor={"name": "random"},
        provenance={},
        licences=[],
    )


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Path:
    """Two recorded sweeps, the second with an ensemble."""
    storage = tmp_path_factory.mktemp("storage")
    store = open_store(storage=storage)
    for name, dataset, score in [("first", "breastmnist", 0.5), ("<b>second</b>", "phantom", 0.8)]:
        run_id = store.create_run(name, kind="sweep", params={"dataset": dataset, "members": 6})
        store.log_metrics(run_id, {"intra_d": score, "inter_d": 0.3})
        store.create_run("SNGAN", kind="gan", parent=run_id)
    store.log_folder(run_id, folder, "ensemble")
    store.set_tags(run_id, {"ensgan.selected": "A@1,B@2", TAG_DIGEST: ensemble_digest(folder)})
    store.finish(run_id)
    return storage


@pytest.fixture
def run_id(storage: Path) -> str:
    return open_store(storage=storage).find(params={"dataset": "phantom"})[0].run_id


def call(*arguments: object) -> Any:
    result = CliRunner(env={"COLUMNS": "120"}).invoke(
        app, [str(argument) for argument in arguments]
    )
    if isinstance(result.exception, EnsganError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def as_json(*arguments: object) -> Any:
    return json.loads(call(*arguments, "--json"))


def test_runs_lists_sweeps(storage: Path, run_id: str) -> None:
    found = as_json("runs", "--storage", storage)["runs"]
    assert [run["name"] for run in found] == ["<b>second</b>", "first"]
    assert found[0] == {
        "run_id": run_id,
        "name": "<b>second</b>",
        "status": "finished",
        "started": found[0]["started"],
        "dataset": "phantom",
        "members": 6,
        "selected": ["A@1", "B@2"],
        "intra_d": 0.8,
        "inter_d": 0.3,
        "density": None,
        "coverage": None,
    }
    by_score = as_json("runs", "--storage", storage, "--sort", "intra_d")["runs"]
    assert [run["intra_d"] for run in by_score] == [0.5, 0.8]
    breast = as_json("runs", "--storage", storage, "--dataset", "breastmnist")["runs"]
    assert [run["name"] for run in breast] == ["first"]

    def names(*options: str) -> list[str]:
        return [run["name"] for run in as_json("runs", "--storage", storage, *options)["runs"]]

    assert names("--status", "running") == ["first"]
    assert names("--gan", "A") == ["<b>second</b>"]
    assert names("--gan", "C") == []
    assert names("--since", "2020-01-01", "--sort", "date") == ["first", "<b>second</b>"]
    assert names("--since", "2999-01-01") == []
    with pytest.raises(InputError, match="'done' is not a run status"):
        names("--status", "done")


def test_tables_for_people(storage: Path, run_id: str) -> None:
    listed = call("runs", "--storage", storage)
    assert "phantom" in listed
    assert run_id in listed
    shown = call("show", run_id, "--storage", storage)
    assert "ensemble.json" in shown
    assert "SNGAN" in shown
    child = open_store(storage=storage).children(run_id)[0]
    assert child.run_id in shown
    value = as_json("show", run_id, "--storage", storage)
    assert value["params"]["dataset"] == "phantom"
    assert [child["name"] for child in value["children"]] == ["SNGAN"]
    assert "ensemble/ensemble.json" in value["files"]


def test_no_runs_yet(tmp_path: Path) -> None:
    assert as_json("runs", "--storage", tmp_path) == {"runs": []}
    assert list(tmp_path.iterdir()) == []


def test_pull_then_sample_without_a_store(storage: Path, run_id: str, tmp_path: Path) -> None:
    pulled = as_json("pull", run_id, "-o", tmp_path / "out", "--storage", storage)
    assert pulled["members"] == {"A@1": 0.5, "B@2": 0.5}
    as_json("sample", tmp_path / "out", "-n", 64, "--seed", 1, "-o", tmp_path / "a.npz")
    as_json("sample", tmp_path / "out", "-n", 10, "--seed", 1, "-o", tmp_path / "b.npz")
    as_json(
        *("sample", run_id, "-n", 64, "--seed", 1, "-o", tmp_path / "c.npz"),
        *("--storage", storage),
    )
    many = Samples.load(tmp_path / "a.npz")
    few = Samples.load(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "c.npz").read_bytes()
    assert np.array_equal(many.images[:10], few.images)
    assert many.member_names == ("A@1", "B@2")
    assert many.key == load_ensemble(run_id, storage=storage).sample(64, seed=1).key


def test_sample_to_png_with_labels(folder: Path, tmp_path: Path) -> None:
    value = as_json("sample", folder, "--labels", "0:3,1:2", "-o", tmp_path / "png")
    assert value["images"] == 5
    assert sum(value["by"].values()) == 5
    assert len(list((tmp_path / "png" / "0_normal").glob("*.png"))) == 3
    assert len(list((tmp_path / "png" / "1_pneumonia").glob("*.png"))) == 2
    assert (tmp_path / "png" / "labels.csv").is_file()


def test_sample_to_dicom(folder: Path, tmp_path: Path) -> None:
    as_json("sample", folder, "-n", 3, "-o", tmp_path / "dicom", "--format", "dicom")
    assert len(list((tmp_path / "dicom").rglob("*.dcm"))) == 3
    for form, output in (("npz", "x"), ("dicom", "x.npz"), ("jpeg", "x")):
        with pytest.raises(InputError, match="--format"):
            call("sample", folder, "-n", 3, "-o", tmp_path / output, "--format", form)


def test_verify(storage: Path, run_id: str, folder: Path, tmp_path: Path) -> None:
    assert as_json("verify", folder)["verified"] is True
    value = as_json("verify", run_id, "--storage", storage)
    assert value == {
        "verified": True,
        "files": 4,
        "bytes": value["bytes"],
        "members": ["A@1", "B@2"],
        "unlisted": [],
    }


def test_an_artifact_swapped_in_the_store_is_noticed(
    storage: Path, run_id: str, folder: Path, tmp_path: Path
) -> None:
    store = open_store(storage=storage)
    changed = store.create_run("swapped", kind="sweep", params={"dataset": "x"})
    store.log_folder(changed, folder, "ensemble")
    store.set_tags(changed, {TAG_DIGEST: "0" * 64})
    with pytest.raises(IntegrityError, match="not the one that its sweep recorded"):
        call("pull", changed, "-o", tmp_path / "out", "--storage", storage)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["sample", "{folder}", "-o", "x.npz"], "say how many images"),
        (["sample", "{folder}", "-n", "3", "-o", "x.png"], "neither an .npz file nor a folder"),
        (["sample", "{folder}", "-n", "3", "-o", "{folder}"], "exists already"),
        (["sample", "{folder}", "-n", "0", "-o", "x.npz"], "cannot make 0 images"),
        (["sample", "{folder}", "--labels", "2", "-o", "x.npz"], "no class 2"),
        (["sample", "no/such", "-n", "3", "-o", "x.npz"], "there is no ensemble folder"),
        (["sample", "0" * 32, "-n", "3", "-o", "x.npz"], "no run '0000"),
        (["show", "nope"], "no run 'nope'"),
        (["pull", "nope", "-o", "out"], "no run 'nope'"),
        (["verify", "nope"], "no run 'nope'"),
        (["ui"], "nothing to show"),
        (["serve", "{folder}", "--host", "0.0.0.0"], "set ENSGAN_TOKEN"),
        (["serve", "{folder}", "--host", "example.org"], "set ENSGAN_TOKEN"),
        (["serve", "no/such"], "there is no ensemble folder"),
    ],
)
def test_bad_input_is_one_sentence(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    match: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ENSGAN_TOKEN", raising=False)
    monkeypatch.delenv("ENSGAN_STORAGE", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(InputError, match=match) as caught:
        call(*(argument.format(folder=folder) for argument in arguments))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_short_token_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSGAN_TOKEN", "short")
    with pytest.raises(InputError, match="too short"):
        call("serve", folder, "--host", "0.0.0.0")


def test_a_run_without_an_ensemble(storage: Path, tmp_path: Path) -> None:
    first = open_store(storage=storage).find(params={"dataset": "breastmnist"})[0].run_id
    with pytest.raises(InputError, match="has no 'ensemble' folder"):
        call("pull", first, "-o", tmp_path / "out", "--storage", storage)


def test_compare(storage: Path, run_id: str) -> None:
    first = open_store(storage=storage).find(params={"dataset": "breastmnist"})[0].run_id
    value = as_json("compare", run_id, first, "--storage", storage)
    assert value["params"] == {"dataset": ["phantom", "breastmnist"]}
    assert value["metrics"] == {"inter_d": [0.3, 0.3], "intra_d": [0.8, 0.5]}
    assert value["selected"] == [["A@1", "B@2"], []]
    assert value["shared"] == []
    assert "breastmnist" in call("compare", run_id, first, "--storage", storage)
    with pytest.raises(InputError, match="at least two"):
        call("compare", run_id, "--storage", storage)


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
    import base64
    import io
    import os
    import subprocess
    import sys

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
        env={**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"},
    )
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout.splitlines()[-1])
    wanted = load_ensemble(run_id, storage=storage).sample(5, seed=3)
    assert [row["label"] for row in rows] == wanted.labels.tolist()
    from PIL import Image

    for row, image in zip(rows, wanted.images, strict=True):
        made = np.asarray(Image.open(io.BytesIO(base64.b64decode(row["image"]))))
        assert np.array_equal(made, image)


@pytest.mark.slow
def test_mlflow_serves_a_promoted_ensemble(storage: Path, run_id: str, tmp_path: Path) -> None:
    import os
    import socket
    import subprocess
    import sys
    import time
    import urllib.request

    as_json("promote", run_id, "--storage", storage)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [
        *(
            sys.executable,
            "-m",
            "mlflow",
            "models",
            "serve",
            "-m",
            "models:/ensgan-phantom@champion",
        ),
        *("--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)),
    ]
    settings = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{storage}/mlflow.db",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            command, env={**os.environ, **settings}, stdout=log, stderr=log, start_new_session=True
        )
        try:
            for _ in range(480):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5)
                    break
                except OSError:
                    assert server.poll() is None, (tmp_path / "log").read_text()
                    time.sleep(0.5)
            wanted = load_ensemble(run_id, storage=storage).sample(4, [0, 1, 1, 0], seed=3)
            request = {"n": 4, "labels": [0, 1, 1, 0], "seed": 3}
            for body in ({"inputs": request}, {"dataframe_records": [request]}):
                answer = urllib.request.urlopen(
                    urllib.request.Request(
                        f"http://127.0.0.1:{port}/invocations",
                        json.dumps(body).encode(),
                        {"Content-Type": "application/json"},
                    ),
                    timeout=120,
                )
                rows = json.loads(answer.read())["predictions"]
                assert [row["label"] for row in rows] == wanted.labels.tolist()
                names = [wanted.member_names[i] for i in wanted.members]
                assert [row["member"] for row in rows] == names
        finally:
            os.killpg(server.pid, 15)
            server.wait(60)


@pytest.mark.parametrize(
    ("text", "labels"), [("0", [0]), ("0,1, 1", [0, 1, 1]), ("1:3,0:2,1", [1, 1, 1, 0, 0, 1])]
)
def test_labels(text: str, labels: list[int]) -> None:
    assert parse_labels(text, None) == labels
    assert parse_labels(text, len(labels)) == labels


@pytest.mark.parametrize(
    ("text", "n"), [("", None), ("a", None), ("-1", None), ("0:x", None), ("0:", None), ("0,1", 3)]
)
def test_bad_labels(text: str, n: int | None) -> None:
    with pytest.raises(InputError):
        parse_labels(text, n)


def test_a_huge_request_is_refused_before_memory_is_taken() -> None:
    with pytest.raises(InputError, match="more than 10 million"):
        parse_labels("0:999999999999", None)


def test_reading_needs_no_mlflow(storage: Path, run_id: str, tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; sys.modules['mlflow'] = None\n"
        "from ensgan.cli.app import app\n"
        f"for arguments in (['runs'], ['show', {run_id!r}], "
        f"['pull', {run_id!r}, '-o', {str(tmp_path / 'out')!r}]):\n"
        f"    app([*arguments, '--storage', {str(storage)!r}], standalone_mode=False)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "ensemble.json").is_file()
