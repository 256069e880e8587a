from __future__ import annotations

import re
import socket
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest
from commands import as_json, call
from made_sweep import make_sweep
from servers import free_port, serving

from ensgan.errors import InputError, StoreError
from ensgan.files import write_json
from ensgan.store import beginning_with, find_run, open_store
from ensgan.sweep.folder import SweepFolder


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
        "auc": None,
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


def test_runs_and_status_agree_on_an_interrupted_sweep(tmp_path: Path) -> None:
    run_id = open_store(storage=tmp_path).create_run("made", kind="sweep")
    make_sweep(tmp_path)
    folder = SweepFolder(tmp_path / "sweeps" / "made")
    write_json(folder.record_path, {"runs": {"made": run_id}})
    begun = folder.read().model_copy(update={"status": "running", "finished": None})
    begun.save(folder.manifest_path)

    def states() -> tuple[str, str]:
        (listed,) = as_json("runs", "--storage", tmp_path)["runs"]
        return listed["status"], as_json("status", "made", "--storage", tmp_path)["state"]

    assert states() == ("interrupted", "interrupted")
    assert len(as_json("runs", "--storage", tmp_path, "--status", "interrupted")["runs"]) == 1
    assert as_json("runs", "--storage", tmp_path, "--status", "running")["runs"] == []
    with folder.locked():
        assert states() == ("running", "running")


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


def test_a_run_is_named_as_people_name_it(storage: Path, run_id: str, tmp_path: Path) -> None:
    child = open_store(storage=storage).children(run_id)[0]
    for name, meant in (("<b>second</b>", run_id), ("latest", run_id), (child.run_id[:9], child)):
        shown = as_json("show", name, "--storage", storage)
        assert shown["run_id"] == getattr(meant, "run_id", meant)
    pulled = as_json("pull", run_id[:8], "-o", tmp_path / "out", "--storage", storage)
    assert pulled["run_id"] == run_id
    assert as_json("verify", "latest", "--storage", storage)["verified"]
    compared = as_json("compare", "first", "latest", "--storage", storage)
    assert compared["names"] == ["first", "<b>second</b>"]
    made = as_json("sample", "latest", "-n", 2, "-o", tmp_path / "s.npz", "--storage", storage)
    assert made["images"] == 2


def test_a_beginning_that_fits_several_runs_lists_them() -> None:
    labels = {"ab12" + "0" * 28: "sweep one", "ab34" + "0" * 28: "gan SNGAN"}
    assert beginning_with("AB3", labels) == "ab34" + "0" * 28
    assert beginning_with("c", labels) is None
    with pytest.raises(InputError, match=r"'ab' begins 2 run IDs: ab12.*one.*ab34.*SNGAN"):
        beginning_with("ab", labels)


def test_a_report_of_a_folder_says_where_its_card_is(banks: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is an ensemble, .* its card is .*README.md"):
        call("report", banks, "-o", tmp_path / "r.html")


@pytest.mark.parametrize("command", [["runs"], ["show", "latest"], ["compare", "a", "b"]])
def test_a_server_is_named_before_it_is_asked(
    monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    said: list[str] = []
    monkeypatch.setattr("ensgan.cli.runs.note", said.append)
    address = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(StoreError, match="no server answers at"):
        call(*command, "--uri", address)
    assert said == [f"loading MLflow to ask {address} …"]


def test_what_is_listed_is_asked_for_rightly(
    storage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="unknown field 'intrad': did you mean 'intra_d'"):
        call("runs", "--storage", storage, "--sort", "-intrad")
    with pytest.raises(InputError, match="is no folder"):
        call("runs", "--storage", tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other things than sweeps"):
        call("runs", "--storage", tmp_path)
    assert as_json("runs", "--storage", storage, "--dataset", "nope")["runs"] == []


def test_compare(storage: Path, run_id: str) -> None:
    first = find_run(open_store(storage=storage), "first")
    value = as_json("compare", run_id, first, "--storage", storage)
    assert value["params"] == {"dataset": ["phantom", "breastmnist"]}
    assert value["metrics"] == {"inter_d": [0.3, 0.3], "intra_d": [0.8, 0.5]}
    assert value["selected"] == [["A@1", "B@2"], []]
    assert value["shared"] == []
    assert "breastmnist" in call("compare", run_id, first, "--storage", storage)
    with pytest.raises(InputError, match="at least two"):
        call("compare", run_id, "--storage", storage)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["sample", "{folder}", "-o", "x.npz"], "say how many images"),
        (["sample", "{folder}", "-n", "3", "-o", "x.png"], "neither an .npz file nor a folder"),
        (["sample", "{folder}", "-n", "3", "-o", "{folder}"], "this command reads"),
        (["sample", "{folder}", "-n", "20000000", "-o", "x.npz"], "more than the 10000000"),
        (["sample", "{folder}", "-n", "3", "-o", "/dev/null"], "no folder"),
        (["sample", "{folder}", "--labels", "0:" + "9" * 5000, "-o", "x"], "10 million"),
        (["sample", "{folder}", "--labels", "9" * 5000, "-o", "x"], "is no label"),
        (["sample", "{folder}", "-n", "0", "-o", "x.npz"], "cannot make 0 images"),
        (["sample", "{folder}", "--labels", "2", "-o", "x.npz"], "no class 2"),
        (["sample", "no/such", "-n", "3", "-o", "x.npz"], "there is no ensemble folder"),
        (["sample", "0" * 32, "-n", "3", "-o", "x.npz"], "no run '0000"),
        (["show", "nope"], "no run 'nope'"),
        (["show", "lastest"], r"no run 'lastest' .*: did you mean 'latest'\? 'ensgan runs'"),
        (["pull", "nope", "-o", "out"], "no run 'nope'"),
        (["verify", "nope"], "no run 'nope'"),
        (["ui"], "nothing to show"),
        (["serve", "{folder}", "--host", "0.0.0.0"], "set ENSGAN_TOKEN"),
        (["serve", "{folder}", "--host", "example.org"], "set ENSGAN_TOKEN"),
        (["serve", "no/such"], "there is no ensemble folder"),
    ],
)
def test_bad_input_is_one_sentence(
    banks: Path,
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
        call(*(argument.format(folder=banks) for argument in arguments))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_short_token_is_refused(banks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSGAN_TOKEN", "short")
    with pytest.raises(InputError, match="too short"):
        call("serve", banks, "--host", "0.0.0.0")


def test_what_is_listed_needs_no_arrays_and_nothing_that_is_read_mlflow(
    storage: Path, run_id: str, tmp_path: Path
) -> None:
    import subprocess
    import sys

    from made_sweep import make_sweep

    make_sweep(tmp_path / "made")
    code = (
        "import sys\n"
        "late = 'numpy', 'torch', 'yaml', 'urllib.request', 'rich.progress'\n"
        "for name in ('mlflow', *late): sys.modules[name] = None\n"
        "from ensgan.cli.app import app\n"
        f"def call(*words, storage={str(storage)!r}):\n"
        "    app([*words, '--storage', storage], standalone_mode=False)\n"
        f"call('runs'); call('show', {run_id!r})\n"
        f"call('status', storage={str(tmp_path / 'made')!r})\n"
        "for name in late: del sys.modules[name]\n"
        f"call('pull', {run_id!r}, '-o', {str(tmp_path / 'out')!r})\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "ensemble.json").is_file()


@pytest.mark.parametrize("scheme", ["http://", "mysql+pymysql://me:secret@"])
def test_a_server_that_nobody_runs_is_one_sentence_at_once(scheme: str) -> None:
    address = f"{scheme}127.0.0.1:{free_port()}"
    for command in (["runs"], ["show", "latest"], ["ui"]):
        with pytest.raises(StoreError, match=r"no server answers at [hm]") as caught:
            call(*command, "--uri", address)
        assert "Pool" not in str(caught.value) and "secret" not in str(caught.value)


def test_a_port_of_another_program_is_said_to_be_that(storage: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} of 127.0.0.1 is in use by another"):
            call("ui", "--port", port, "--storage", storage)


def test_the_pages_end_with_their_command(storage: Path, run_id: str, tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "ensgan", "ui", "--port", port, "--storage", storage]
    with serving(command, f"{address}/health", tmp_path) as ui:
        for _ in range(600):  # it is printed once the server takes connections
            printed = (tmp_path / "server.log").read_text()
            if "Ctrl-C" in printed:
                break
            time.sleep(0.1)
        assert re.search(rf"{address}/#/experiments/\d+/runs\?workflowType=machine_learn", printed)
        assert f"/runs/{run_id}?workflowType=machine_learning" in printed
        ui.terminate()
        assert ui.wait(60) == 0
        with pytest.raises(OSError):
            urlopen(f"{address}/health", timeout=5)
