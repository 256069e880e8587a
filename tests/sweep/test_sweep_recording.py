"""A sweep's manifest shown to a tracking store, that answers or not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from local_sweep import Home
from memory_store import MemoryStore
from tiny_sweep import tiny

from ensgan.cli.run_tables import summary
from ensgan.config import parse_spec
from ensgan.errors import InputError, StoreError
from ensgan.files import write_json
from ensgan.report.record import Recording
from ensgan.sweep.events import SweepResult
from ensgan.sweep.folder import SweepFolder


def test_the_run_is_recorded(home: Home, result: SweepResult) -> None:
    assert result.run_id is not None
    parent = home.store.get(result.run_id)
    assert parent.kind == "sweep" and parent.status == "finished"
    assert parent.tags["ensgan.selected"] == ",".join(result.selected.point.members)
    assert parent.metrics["intra_d"] == pytest.approx(result.selected.point.intra_d)
    children = home.store.children(result.run_id)
    kinds = sorted(child.kind for child in children)
    assert kinds == ["gan"] * 2 + ["search"] + ["strategy"] * 4
    gan = next(child for child in children if child.name == "SNGAN")
    assert gan.metrics["intra_d"] == pytest.approx(result.members[1].intra_d)
    assert gan.metrics["train/d_loss"] > 0, "the history of its training"
    own = result.table.row("selected").metrics
    assert (
        parent.metrics["auc"] == own["auc"].mean and parent.metrics["g_mean"] == own["g_mean"].mean
    )
    assert parent.metrics["auc.real"] == result.table.row("real").metrics["auc"].mean
    assert list(home.store.files(gan.run_id)) == ["grid-SNGAN/SNGAN.png"]  # nothing real
    assert gan.params["sha256.6"] == result.members[1].sha256
    for record in (parent, *children):
        assert record.params["dataset.key"] and record.params["seed"] == "7"
        assert record.tags["ensgan.dataset"] == "phantom"
    chosen = [child.tags.get("ensgan.selected") for child in children if child.kind == "gan"]
    assert ",".join(filter(None, chosen)) == parent.tags["ensgan.selected"]
    files = set(home.store.files(result.run_id))
    assert files >= {
        *("0-report/report.html", "manifest.json", "ensemble/ensemble.json", "ensemble/README.md"),
        *("front/front.html", "front/front.png", "front/front.json", "grids/selected.png"),
        *("pool/overlap.png", "pool/membership.png", "pool/members.csv", "pool/scores.npz"),
        *("downstream/table.csv", "downstream/table.json", "privacy/memorisation.json"),
    }
    report = home.store.read(result.run_id, "0-report/report.html").decode()
    for name in result.selected.point.members:
        assert name in report


class Unreliable(MemoryStore):
    """Does what it is asked, but the answer to every request is lost the first time."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    @property
    def uri(self) -> str:
        return "memory:unreliable"

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if name not in ("create_run", "log_history", "log_file", "log_folder", "set_tags"):
            return method

        def call(*arguments: Any, **options: Any) -> Any:
            answer = method(*arguments, **options)
            shown = [value.name if isinstance(value, Path) else value for value in arguments]
            self.asked.append(repr((name, shown)))
            if self.asked.count(self.asked[-1]) == 1:
                raise StoreError("the connection broke before the answer came")
            return answer

        return call


def test_an_unreliable_store_gets_every_run_once(
    home: Home, result: SweepResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Unreliable()
    recording = Recording(SweepFolder(result.folder), store)
    recording.state.path = tmp_path / "recorded.json"
    run_id = None
    for _ in range(100):
        try:
            run_id = recording.bring_up_to_date()
            break
        except StoreError:
            continue
    assert run_id is not None and len(store.asked) > 60
    assert len(store.find()) == 1
    wanted = home.store.children(result.run_id or "")
    found = store.children(run_id)
    assert sorted(child.name for child in found) == sorted(child.name for child in wanted)
    params = {child.name: child.params for child in wanted}
    for child in found:
        assert child.params == params[child.name]
        assert child.status == "finished"
    assert store.get(run_id).metrics == home.store.get(result.run_id or "").metrics
    asked = len(store.asked)
    assert recording.bring_up_to_date() == run_id
    assert len(store.asked) == asked


def test_nothing_that_is_recorded_holds_a_password(result: SweepResult, tmp_path: Path) -> None:
    shutil.copytree(result.folder, tmp_path / "sweep")
    folder, store = SweepFolder(tmp_path / "sweep"), MemoryStore()
    folder.record_path.unlink()
    manifest = json.loads(folder.manifest_path.read_text())
    manifest["spec"]["track"]["uri"] = "http://me:SECRETPW@127.0.0.1:9/?token=SECRETPW"
    write_json(folder.manifest_path, manifest)
    run_id = Recording(folder, store).bring_up_to_date() or ""
    assert {"0-report/report.html", "manifest.json"} <= set(store.files(run_id))
    for record in (store.get(run_id), *store.children(run_id)):
        assert "SECRETPW" not in str((record.params, record.tags))
        for name in store.files(record.run_id):
            assert b"SECRETPW" not in store.read(record.run_id, name), name
    assert "SECRETPW" in folder.manifest_path.read_text(), "a resumed sweep needs it"


def test_an_interrupted_run_ends_when_the_sweep_goes_on_with_other_settings(
    result: SweepResult, tmp_path: Path
) -> None:
    manifest = json.loads((result.folder / "manifest.json").read_text())
    results = ("front", "trials", "scores", "downstream", "ensemble", "privacy", "selected")
    begun = {key: value for key, value in manifest.items() if key not in results}
    begun["status"] = "running"
    shutil.copytree(result.folder, tmp_path / "sweep")
    folder, store = SweepFolder(tmp_path / "sweep"), MemoryStore()
    folder.record_path.unlink()
    write_json(folder.manifest_path, begun)
    first = Recording(folder, store).bring_up_to_date() or ""
    assert Recording(folder, store).bring_up_to_date() == first
    begun["spec"]["search"]["trials"] = 41
    write_json(folder.manifest_path, begun)
    recorded = json.loads(folder.record_path.read_text())
    write_json(folder.record_path, {**recorded, "uri": "sqlite:////where/the/storage/was"})
    second = Recording(folder, store).bring_up_to_date() or ""
    assert [store.get(run_id).status for run_id in (first, second)] == ["killed", "running"]
    shown = [summary(store.get(run_id))["status"] for run_id in (first, second)]
    assert shown == ["replaced", "running"], "nobody has killed it"


def test_an_absent_store_delays_recording_only(home: Home) -> None:
    home.store.reachable = False
    try:
        result = home.run(parse_spec(tiny(name="offline", train={"steps": 2})))
    finally:
        home.store.reachable = True
    assert result.run_id is None
    warnings = [event for event in home.events if event.kind == "warning"]
    assert "ensgan sync" in warnings[0].fields["message"]
    run_id = home.sync("offline")
    assert home.store.get(run_id).status == "finished"
    before = len(home.store.children(run_id))
    assert home.sync("offline") == run_id
    assert len(home.store.children(run_id)) == before == 7
    with pytest.raises(InputError, match="did you mean 'offline'"):
        home.sync("offlin")
