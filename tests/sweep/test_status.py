"""``ensgan status``: what the folder of a sweep tells."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tiny_sweep import tiny

from ensgan.cli import main
from ensgan.cli.status import gan_table, status_view
from ensgan.config import parse_spec
from ensgan.errors import InputError
from ensgan.files import write_json
from ensgan.sweep.events import Event
from ensgan.sweep.folder import SweepFolder, find_sweep
from ensgan.sweep.live.status import Progress, ProgressFile, sweep_status
from ensgan.sweep.manifest import DatasetRecord, Losses, Manifest
from ensgan.sweep.planning.measured import KEY, History, Measured, stage_work
from ensgan.sweep.records import MemberResult

NOW = 1000.0


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    """A sweep of three GANs: one done, one running, one not begun."""
    sweep = SweepFolder(tmp_path / "sweeps" / "mine")
    members = {
        f"SNGAN@{step}": MemberResult(
            name=f"SNGAN@{step}",
            weights=sweep.path / "train" / "SNGAN-key" / f"SNGAN@{step}.safetensors",
            sha256="",
            samples=sweep.file("samples", f"SNGAN@{step}.npz"),
            features=sweep.file("features", f"SNGAN@{step}.npy"),
            density=0.4,
            coverage=0.4,
            intra_d=0.4,
            metrics={},
            health=("constant images",),
            seconds={},
            work=(),
        )
        for step in (50, 100)
    }
    gans = ("SNGAN", "SAGAN", "BigGAN")
    spec = parse_spec(tiny(name="mine", train={"gans": list(gans), "steps": 100, "snapshots": 2}))
    Manifest(
        spec=spec.model_dump(mode="json"),
        gans=gans,
        steps=dict.fromkeys(gans, 100),
        members=members,
        planned=6,
        started=900.0,
        losses={"SAGAN": Losses(node=1, process=2)},
        dataset=DatasetRecord(
            name="phantom", key="k", source="", classes=("a", "b"), images={"train": 160}
        ),
    ).save(sweep.manifest_path)
    beat = {"gan": "SAGAN", "step": 40, "steps": 100, "steps_per_second": 2.0, "time": NOW - 1}
    place = {"node": "gpu7", "gpus": 0.5, "gpu_memory_bytes": 3 * 2**30, "precision": "bfloat16"}
    write_json(sweep.path / "train" / "SAGAN-abc" / "heartbeat.json", {**beat, **place})
    write_json(sweep.path / "recorded.json", {"runs": {"mine": "run1", "SNGAN": "run2"}})
    return sweep


def test_a_running_sweep(folder: SweepFolder) -> None:
    with folder.locked():
        value = sweep_status(folder, NOW)
    assert value["state"] == "running" and value["run_id"] == "run1"
    assert (value["members"], value["planned"], value["seconds"]) == (2, 6, 100.0)
    done, running, waiting = value["gans"]
    assert (done["state"], done["member"], done["step"]) == ("done", "SNGAN@100", 100)
    assert (running["state"], running["step"], running["eta_seconds"]) == ("running", 40, 30.0)
    assert (running["node"], running["gpu_memory_bytes"]) == ("gpu7", 3 * 2**30)
    assert (waiting["state"], waiting["step"]) == ("waiting", 0)
    assert len(gan_table(value["gans"]).rows) == 3


def printed(rows: list[dict[str, Any]], width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(gan_table(rows))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_table_fits_80_columns_and_shows_what_tells_rows_apart() -> None:
    unknown = ("member", "steps_per_second", "eta_seconds", "node", "gpu_memory_bytes", "intra_d")
    blank = {**dict.fromkeys((*unknown, "label_consistency")), "step": 0, "health": []}
    done = {**blank, "gan": "StyleGAN2-DiffAug", "member": "StyleGAN2-DiffAug@1000"}
    done |= {"state": "done", "step": 1000, "steps": 1000, "steps_per_second": 2.44, "node": "gpu7"}
    done |= {"intra_d": 0.582, "health": ["constant images"]}
    rows = [done, {**blank, "gan": "SNGAN", "steps": 2000, "state": "waiting"}]
    one = printed(rows)
    assert "constant" in one and "waiting" in one and "Intra-d" in one
    assert "gpu7" not in one and "GPU" not in one
    assert "labels" not in one
    more = {"node": "gpu8", "gpu_memory_bytes": 2**30, "label_consistency": 0.934}
    several = printed([*rows, {**done, **more}], 110)
    assert "gpu7" in several and "1.0 GB" in several and "93%" in several


def test_a_trial_not_heard_of_is_not_called_running(folder: SweepFolder) -> None:
    with folder.locked():
        assert sweep_status(folder, NOW + 100)["gans"][1]["state"] == "silent"
        write_json(folder.progress_path, Progress(stage="train", began=NOW + 50).tree())
        row = sweep_status(folder, NOW + 100)["gans"][1]
    assert (row["state"], row["step"]) == ("waiting", 40), "an earlier session heard of it"


def test_what_the_driver_does_and_what_is_left(folder: SweepFolder) -> None:
    events: list[Event] = []
    driver = ProgressFile(folder, events.append, lambda: True)
    trials = {gan: {"share": 0.5, "effort": float(n)} for gan, n in [("SAGAN", 1), ("BigGAN", 4)]}
    for event in (
        Event("stage", {"stage": "train", "state": "start"}),
        Event("plan", {"slots": 1, "gpus": True, "trials": trials}),
    ):
        driver(event)
    assert len(events) == 2
    write_json(folder.path / "hours.json", {"hours": 1.5})
    with folder.locked():
        value = sweep_status(folder, NOW)
        # SAGAN takes 50 s in all, so BigGAN 200; 30 s of the first are left.
        assert value["eta_seconds"] == pytest.approx(230)
        assert value["hours_left"] == pytest.approx(0.5 * 230 / 3600)
        assert value["eta_total_seconds"] is None, "no sweep of this storage has told"
        assert "about 4 min of training left" in shown(value)
        assert shown(value).splitlines()[0].endswith(", in bfloat16")
        driver(Event("waits", {"for": "GPUs that other work holds"}))
        waits = shown(sweep_status(folder, NOW))
        assert "training, waiting for GPUs that other work holds" in " ".join(waits.split())
        driver(Event("waits", {"for": ""}))
        assert "waiting for" not in shown(sweep_status(folder, NOW))
        # An earlier sweep with half the members and repeats.
        half = tiny(evaluate={"repeats": 1})
        work = stage_work(parse_spec(half), 3, 160)
        took = {"train": 9.0, "score": 10.0, "search": 5.0, "select": 2.0, "evaluate": 20.0}
        Measured.beside(folder.path).learn_stages(took, work)
        whole = 230 + 10 * 21 / 6 + 5 + 2 * 2 + 20 * 2
        value = sweep_status(folder, NOW)
        assert value["eta_total_seconds"] == pytest.approx(whole)
        assert "about 5 min left (4 min of training)" in " ".join(shown(value).split())
        assert (value["stage"], value["hours"], value["hours_of"]) == ("train", 1.5, "GPU")
        driver(Event("held", {"gans": {"BigGAN": "stopped"}, "all": False}))
        assert sweep_status(folder, NOW)["gans"][2]["state"] == "stopped"
        driver(Event("held", {"gans": {}, "all": True}))
        value = sweep_status(folder, NOW + 10)
        assert [row["state"] for row in value["gans"]] == ["done", "paused", "paused"]
        assert value["state"] == "paused"
        driver(Event("held", {"gans": {}, "all": False}))
        driver(Event("stage", {"stage": "evaluate", "state": "start"}))
        driver._written = 0.0
        driver(Event("progress", {"stage": "evaluate", "done": 14, "of": 120}))
        value = sweep_status(folder, driver.value.began + 28)
        assert value["eta_seconds"] == value["eta_total_seconds"] == pytest.approx(2 * 106)
        assert "evaluating 14 of 120 classifiers" in shown(value)
        assert "2 of 6 members, 1 of 3 GANs" in shown(value)
    assert sweep_status(folder, NOW)["stage"] == "", "nobody runs it"


@pytest.mark.parametrize(
    "progress", [{"slots": 0}, {"trials": {"BigGAN": {"share": 1e308, "effort": 1e308}}}]
)
def test_impossible_figures_of_a_driver_are_not_counted_with(
    folder: SweepFolder, progress: dict[str, Any]
) -> None:
    trials = {gan: {"share": 0.5, "effort": 1.0} for gan in ("SAGAN", "BigGAN")}
    sound = {"stage": "train", "trials": trials}
    write_json(folder.progress_path, {**sound, **progress})
    write_json(folder.path.parents[1] / "measured.json", {KEY: {"score": 1e308}, "x": [1]})
    with folder.locked():
        value = sweep_status(folder, NOW)
        assert value["eta_seconds"] is None and value["stage"] == ""
        write_json(folder.progress_path, sound)
        value = sweep_status(folder, NOW)
    assert value["eta_seconds"] is not None and value["eta_total_seconds"] is None
    json.dumps(value, allow_nan=False)


def shown(value: dict[str, Any], height: int | None = None) -> str:
    console = Console(width=120, file=io.StringIO())
    console.print(status_view(value, height))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_table_larger_than_the_terminal_shows_what_runs(folder: SweepFolder) -> None:
    with folder.locked():
        value = sweep_status(folder, NOW)
    done, running, waiting = value["gans"]
    value["gans"] = [{**done, "member": f"D{i}@9"} for i in range(20)]
    value["gans"] += [{**waiting, "gan": f"W{i}"} for i in range(20)]
    value["gans"] += [{**running, "gan": f"R{i}"} for i in range(6)]
    text = shown(value, 24)
    assert len(text.splitlines()) <= 24
    assert all(f"R{i} " in text for i in range(6)) and "W0 " in text and "D0@9" not in text
    left = 20 - sum(f"W{i} " in text for i in range(20))
    assert f"and {left} waiting, 20 done" in text
    everything = shown(value)
    assert all(f"D{i}@9" in everything for i in range(20)) and "and 0" not in everything


def test_a_history_is_thinned_and_goes_on(tmp_path: Path) -> None:
    history = History(tmp_path)
    for step in range(1, 1001):
        history.add(step, {"loss": 1 / step})
    history.save()
    points = History.load(tmp_path)
    steps = [step for step, _ in points]
    assert 100 <= len(points) <= 200 and steps == sorted(steps)
    assert all(values == {"loss": 1 / step} for step, values in points)
    again = History(tmp_path)
    again.resume(500)
    assert again.points == [point for point in points if point[0] < 500]
    (tmp_path / "history.json").write_text("[]")
    assert History.load(tmp_path) == []


def test_nobody_runs_it(folder: SweepFolder) -> None:
    value = sweep_status(folder, NOW)
    assert value["state"] == "interrupted" and value["gans"][1]["state"] == "waiting"


def test_looking_does_not_keep_a_driver_out(folder: SweepFolder) -> None:
    assert not folder.is_locked()
    with folder.locked():
        assert folder.is_locked()
    assert not folder.is_locked()


@pytest.mark.parametrize("name", ["mine", "run1", "run2", "latest"])
def test_found_by_name_or_run(folder: SweepFolder, name: str) -> None:
    assert find_sweep(name, folder.path.parents[1]).path == folder.path


def test_the_command(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = str(folder.path.parents[1])
    monkeypatch.setattr(sys, "argv", ["ensgan", "status", "mine", "--storage", storage, "--json"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    assert json.loads(capsys.readouterr().out)["gans"][0]["intra_d"] == 0.4
    monkeypatch.setattr(sys, "argv", ["ensgan", "status", "mine", "--storage", storage])
    with pytest.raises(SystemExit):
        main()
    shown = capsys.readouterr().out
    assert "SAGAN was lost and started again" in shown and "run1" in shown


def test_unknown_names_are_refused(folder: SweepFolder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'mine'"):
        find_sweep("mime", folder.path.parents[1])
    with pytest.raises(InputError, match="holds no sweep"):
        find_sweep("mine", tmp_path / "elsewhere")
