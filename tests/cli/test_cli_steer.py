"""``ensgan stop`` and its like, and ``ensgan logs``: refusals, and what the log of a GAN says."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import pytest
from tiny_sweep import write_sweep

from ensgan.cli import main, steer
from ensgan.launch import finished
from ensgan.sweep.folder import SweepFolder, sweep_folder
from ensgan.sweep.live.requests import Outcome, RequestFolder, Requests


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[SweepFolder, str]:
    """A sweep that was run without Ray and is stopped while it evaluates; what it said."""
    home = tmp_path_factory.mktemp("steered")
    words = ["sweep", str(write_sweep(home, train={"steps": 2})), "--address", "none"]
    folder = sweep_folder(home, "tiny")

    def ask() -> None:
        while "evaluate" not in str(folder.progress_path.exists() and _text(folder.progress_path)):
            time.sleep(0.05)
        RequestFolder(folder.path).post("pause")
        RequestFolder(folder.path).post("stop")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ensgan", *words, "--storage", str(home)])
        patch.setattr("sys.stderr", said := Said())
        threading.Thread(target=ask, daemon=True).start()
        with pytest.raises(SystemExit) as end:
            main()
    assert not end.value.code, said.text
    return folder, said.text


class Said:
    """A stream that keeps what is written."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        """Nothing to do."""

    def isatty(self) -> bool:
        """No terminal."""
        return False


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["ensgan", *words])
    code = 0
    try:
        main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_a_sweep_is_stopped_in_any_stage_and_goes_on_from_there(
    trained: tuple[SweepFolder, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, said = trained
    assert "no GAN is being trained now (evaluate)" in said
    assert "stopped by `ensgan stop`: the same command goes on from here" in said
    storage = str(folder.path.parents[1])
    code, out, _ = run(monkeypatch, capsys, "status", "tiny", "--storage", storage, "--json")
    assert json.loads(out)["state"] == "interrupted" and code == 0
    code, out, _ = run(monkeypatch, capsys, "runs", "--storage", storage, "--json")
    assert [one["status"] for one in json.loads(out)["runs"]] == ["interrupted"]
    file = folder.path.parents[1] / "tiny.yaml"
    words = ("sweep", str(file), "--address", "none", "--storage", storage, "--json")
    code, out, error = run(monkeypatch, capsys, *words)
    assert code == 0, error
    first = json.loads(out.splitlines()[-1])
    code, out, _ = run(
        monkeypatch, capsys, "runs", "--sort", "-auc", "--json", "--storage", storage
    )
    chosen = first["downstream"]["strategies"][-1]
    assert chosen["strategy"] == "selected"
    auc = json.loads(out)["runs"][0]["auc"]
    assert auc == pytest.approx(chosen["metrics"]["auc"]["mean"], abs=1e-4)

    before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")}
    known = finished.known_result(file, [], folder.path.parents[1], None)
    assert known is not None and known["selected"] == first["selected"]
    code, out, _ = run(monkeypatch, capsys, *words)
    (last,) = map(json.loads, out.splitlines())
    assert last["run_id"] == first["run_id"] and last["downstream"] == first["downstream"]
    assert {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")} == before

    assert finished.known_result(file, ["seed=8"], folder.path.parents[1], None) is None
    assert finished.known_result(file, ["search.trials=41"], folder.path.parents[1], None) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "memory:")
    assert finished.known_result(file, [], folder.path.parents[1], None) is None
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert finished.known_result(file, [], folder.path.parents[1], None) is not None
    kept = folder.path / "finished.json"
    whole = kept.read_text()
    kept.write_text(whole.replace(known["selected"]["reason"], "another"))
    assert finished.known_result(file, [], folder.path.parents[1], None) is None, "damaged"
    kept.write_text(whole)
    sample = next((folder.path / "samples").iterdir())
    sample.write_bytes(sample.read_bytes()[:-1])
    assert finished.known_result(file, [], folder.path.parents[1], None) is None


def test_logs(
    trained: tuple[SweepFolder, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    storage = str(trained[0].path.parents[1])
    code, out, _ = run(monkeypatch, capsys, "logs", "tiny", "--storage", storage)
    assert code == 0
    assert "SNGAN  " in out and "ACGAN-Mod  " in out and "step 1 of 2: d_" in out
    words = ("logs", "tiny", "--gan", "SNGAN", "-n", "1", "--storage", storage)
    code, out, _ = run(monkeypatch, capsys, *words)
    assert out.endswith("finished\n") and out.count("\n") == 1 and "SNGAN" not in out
    words = ("logs", "tiny", "--gan", "SNGN", "--storage", storage)
    code, _, error = run(monkeypatch, capsys, *words)
    assert code == 2 and "did you mean 'SNGAN'" in error


def test_a_sweep_of_outside_members_alone_has_no_gans_to_name(
    trained: tuple[SweepFolder, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tree = json.loads(trained[0].manifest_path.read_text())
    banks = tmp_path / "sweeps" / "banks"
    banks.mkdir(parents=True)
    (banks / "manifest.json").write_text(json.dumps({**tree, "gans": [], "external": ["A"]}))
    for words, expected in (
        (["logs", "banks"], "sweep 'banks' trains no GANs: there is nothing to log"),
        (["logs", "banks", "--gan", "X"], "unknown GAN of sweep 'banks' 'X': there is none"),
        (["stop", "banks", "--gan", "X"], "unknown GAN of sweep 'banks' 'X': there is none"),
    ):
        code, _, error = run(monkeypatch, capsys, *words, "--storage", str(tmp_path))
        assert code == 2 and expected in error


def test_following_logs(
    trained: tuple[SweepFolder, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, _ = trained
    log, lines = folder.log("SNGAN"), ["half a line, ", "and the rest\n"]
    before = log.read_bytes()

    def later(_: float) -> None:
        if not lines:
            raise KeyboardInterrupt
        with log.open("a") as file:
            file.write(lines.pop(0))

    monkeypatch.setattr(steer.time, "sleep", later)
    words = ("logs", "tiny", "--gan", "SNGAN", "-f", "-n", "1")
    code, out, _ = run(monkeypatch, capsys, *words, "--storage", str(folder.path.parents[1]))
    log.write_bytes(before)
    assert code == 130 and out.splitlines()[1:] == ["half a line, and the rest"]


def test_of_a_large_log_no_more_than_its_end_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(steer, "LARGEST_LOOK", 12)
    log = tmp_path / "A.log"
    tail = steer._Tail("A", log)
    log.mkdir()
    tail.show(label=False, last=9)
    log.rmdir()
    log.write_text("one\ntwo\nthree\nfour\n")
    tail.show(label=True, last=9)
    log.open("a").write("a line of many signs\n")
    tail.show(label=False)
    tail.show(label=False)
    log.write_text("anew\n")
    tail.show(label=False)
    assert capsys.readouterr().out.splitlines() == [
        *("A  ", "A  three", "A  four"), "a line of ma", "ny signs", "anew"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["add", "tiny", "--gan", "SAGAN"], "nothing can be added to it; write it into its file"),
        (["add", "tiny"], "nothing to add: name a GAN (--gan)"),
        (["add", "tiny", "--vary", "learning_rate"], "--vary 'learning_rate': write it as"),
        (["add", "tiny", "--vary", "batch=1"], "--vary batch: "),
        (["add", "tiny", "--vary", "seed=1", "--vary", "seed=2"], "names a setting twice"),
        (["stop", "tiny"], "no process runs sweep 'tiny' now: there is nothing to stop"),
        (["pause", "tiny", "--gan", "SNGN"], "did you mean 'SNGAN'"),
        (["resume", "tyni"], "did you mean 'tiny'"),
        (["retry", "tiny", "--gan", "SNGAN"], "nothing to retry"),
        (["priority", "tiny", "nan", "--gan", "SNGAN"], "a priority is a number, not nan"),
        (["priority", "tiny", "-1.5", "--gan", "SNGAN"], "there is nothing to steer"),
        (["budget", "tiny", "--gpu-hours", "-1"], "must be a number above 0, not -1"),
    ],
)
def test_refusals(
    trained: tuple[SweepFolder, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    expected: str,
) -> None:
    storage = str(trained[0].path.parents[1])
    code, _, error = run(monkeypatch, capsys, *words, "--storage", storage)
    assert code == 2 and error.startswith("error: ") and expected in error


def test_waiting_for_what_was_asked(
    trained: tuple[SweepFolder, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, _ = trained
    words = ("stop", "tiny", "--storage", str(folder.path.parents[1]), "--json")
    with folder.locked():
        code, _, error = run(monkeypatch, capsys, *words)
        assert code == 2 and "takes no requests" in error
        requests, is_over = Requests(RequestFolder(folder.path)), threading.Event()
        happened: list[float] = []

        def drive() -> None:
            outcome = Outcome("it will", lambda: bool(happened), "it has")
            while not is_over.wait(0.05):
                requests.look(lambda request: outcome)

        with requests.taken():
            driver = threading.Thread(target=drive)
            driver.start()
            _, out, _ = run(monkeypatch, capsys, *words)
            assert json.loads(out)["message"] == "it will"
            threading.Timer(1.0, lambda: happened.append(1.0)).start()
            _, out, _ = run(monkeypatch, capsys, *words, "--wait")
            assert json.loads(out)["message"] == "it has"
            is_over.set()
            driver.join()
            monkeypatch.setattr(steer, "ANSWER_SECONDS", 0.2)
            code, _, error = run(monkeypatch, capsys, *words)
            assert code == 2 and "has not answered" in error
