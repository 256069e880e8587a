"""The rule ``validated`` in a sweep: chosen by the validation split, resumed, recorded, shown."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from bank_sweep import write_bank_sweep
from local_sweep import Home
from made_sweep import blobs

from ensgan.config import SweepSpec
from ensgan.errors import ConfigError
from ensgan.report.content import collect
from ensgan.report.page import render
from ensgan.sweep.executor import LocalExecutor
from ensgan.sweep.folder import find_sweep
from ensgan.sweep.runner import SweepResult
from ensgan.types import Dataset, Samples

BANKS = "ABCDEF"


class ToyHome(Home):
    """Sweeps on toy data that a few steps learn, in place of phantoms."""

    def __init__(self, path: Path, dataset: Dataset) -> None:
        super().__init__(path)
        self.dataset = dataset

    def run(self, spec: SweepSpec | Path | None = None, **arguments: object) -> SweepResult:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ensgan.data.load_dataset", lambda *_, **__: self.dataset)
            return super().run(spec, **arguments)


def toy(
    val: Samples | None = None, n_test: int = 40, classes: tuple[str, ...] = ("no", "yes")
) -> Dataset:
    splits = [blobs(96, 0), val or blobs(40, 1), blobs(n_test, 2)]
    if len(classes) == 1:
        splits = [Samples(each.images, each.labels * 0) for each in splits]
    return Dataset("toy", *splits, classes)


def write_pool(folder: Path, **sections: object) -> Path:
    """Six generators of equally good images; those of D, E and F have their labels swapped."""
    tree = {
        "dataset": {"name": "phantom", "image_size": 8},
        "members": [{"name": bank, "images": f"{bank}.npz"} for bank in BANKS],
        "evaluate": {"strategies": [], "epochs": 3, "batch": 16, "width": 4},
        **sections,
    }
    file = write_bank_sweep(folder, "judged", **tree)
    for seed, bank in enumerate(BANKS):
        made = blobs(80, 10 + seed)
        labels = 1 - made.labels if bank in "DEF" else made.labels
        np.savez(folder / f"{bank}.npz", images=made.images, labels=labels)
    return file


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Path]:
    folder = tmp_path_factory.mktemp("judged")
    home = ToyHome(folder / "runs", toy())
    file = write_pool(folder)
    home.run(file)
    return home, file


def test_swapped_labels_are_found_and_the_choice_is_told_everywhere(
    judged: tuple[Home, Path],
) -> None:
    home, _ = judged
    folder = find_sweep("judged", home.path)
    manifest = folder.read()
    assert manifest.selected is not None and manifest.validation is not None
    assert len({*"DEF"} & {*manifest.selected.members}) <= 1
    assert len(manifest.selected.members) <= 3  # half of all
    reason = manifest.selected.reason
    assert "validation AUC" in reason and "runner-up" in reason
    found = json.loads(manifest.validation.read_text())
    assert found["trained"] >= len(found["shortlist"]) == 8
    run_id = folder.run_id() or ""
    assert json.loads(home.store.read(run_id, "select/validated.json")) == found
    assert home.store.get(run_id).tags["ensgan.rule"] == "validated"
    assert "validated: " in home.store.read(run_id, "ensemble/README.md").decode()
    page = render(collect(home.store, run_id))
    assert "Finalists of 8 ensembles" in page and 'class="chosen"' in page
    stages = [event.fields for event in home.events if event.kind == "stage"]
    assert {"stage": "select", "state": "start"} in stages
    done = [e.fields for e in home.events if e.fields.get("stage") == "select" and "of" in e.fields]
    assert (done[-1]["done"], done[-1]["of"]) == (found["trained"], found["trained"])


def test_a_choice_that_was_stopped_goes_on(
    judged: tuple[Home, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, file = judged
    folder = find_sweep("judged", home.path)
    before = folder.manifest_path.read_bytes()
    validation = folder.read().validation
    assert validation is not None
    content = validation.read_bytes()

    def refuse(*_: object) -> None:
        raise AssertionError("a classifier was trained again")

    validation.unlink()  # the judges' results are all there
    with monkeypatch.context() as patch:
        patch.setattr(LocalExecutor, "map", refuse)
        home.run(file)
    assert validation.read_bytes() == content
    assert folder.manifest_path.read_bytes() == before
    lost = sorted((folder.path / "evaluate").glob("validation-*.json"))[0]
    kept = lost.read_bytes()
    lost.write_text("{")
    validation.unlink()
    home.run(file)
    assert json.loads(lost.read_bytes())["result"] == json.loads(kept)["result"]
    assert validation.read_bytes() == content


def test_another_test_split_changes_nothing(judged: tuple[Home, Path], tmp_path: Path) -> None:
    home, _ = judged
    other = ToyHome(tmp_path / "runs", toy(n_test=64))
    other.run(write_pool(tmp_path))
    first, second = (find_sweep("judged", each.path) for each in (home, other))
    assert first.read().dataset.key != second.read().dataset.key
    for name in ("train", "val"):
        splits = [next((f.path / "data").glob(f"*-{name}.npz")) for f in (first, second)]
        assert splits[0].read_bytes() == splits[1].read_bytes()
    found = [f.read().validation for f in (first, second)]
    assert found[0] is not None and found[1] is not None
    assert json.loads(found[0].read_text()) == json.loads(found[1].read_text())


def test_data_of_one_class_choose_by_capped_intra_d(tmp_path: Path) -> None:
    home = ToyHome(tmp_path / "runs", toy(classes=("only",)))
    file = write_pool(tmp_path, select={"rule": "validated"})
    for seed, bank in enumerate(BANKS):
        made = blobs(80, 10 + seed)
        np.savez(tmp_path / f"{bank}.npz", images=made.images, labels=made.labels * 0)
    result = home.run(file)
    assert "toy has one class only, so the largest capped Intra-d decides" in result.selected.reason
    best = max(p.first for p in result.front if len(p.members) <= 3)
    assert result.selected.point.first == pytest.approx(best)


@pytest.mark.parametrize("named", [True, False])
def test_a_validation_split_without_a_class(tmp_path: Path, named: bool) -> None:
    """Refused before any work where the rule was asked for; else said in the reason."""
    val = blobs(40, 1)
    home = ToyHome(tmp_path / "runs", toy(Samples(val.images[::2], val.labels[::2])))
    file = write_pool(tmp_path, select={"rule": "validated"} if named else {})
    missing = "the val split of toy has no image of class yes"
    if named:
        with pytest.raises(ConfigError, match=f"select.rule: validated needs .*: {missing}"):
            home.run(file)
        assert not (home.path / "sweeps").exists()
    else:
        assert missing in home.run(file).selected.reason


def test_scores_within_classes_see_swapped_labels(tmp_path: Path) -> None:
    """What joint scores cannot tell apart; too few images of a class are refused first."""
    home = ToyHome(tmp_path / "runs", toy())
    rule = {"rule": "knee"}
    joint = home.run(write_pool(tmp_path, select=rule)).scores
    result = home.run(write_pool(tmp_path, select=rule, score={"classes": "per-class"}))
    scores = result.scores
    swapped = [name in "DEF" for name in scores.names]
    honest = ~np.array(swapped)
    assert scores.capped_intra_d[swapped].max() < 0.5 * scores.capped_intra_d[honest].min()
    assert joint.capped_intra_d[swapped].min() > 0.8 * joint.capped_intra_d[honest].max()
    assert set(result.selected.point.members) & {*"ABC"}
    again = home.run(write_pool(tmp_path, select=rule, score={"classes": "per-class"}))
    assert again.run_id == result.run_id
    with pytest.raises(
        ConfigError, match="per-class with k 60 needs 61 images of every class, and"
    ):
        home.run(write_pool(tmp_path, score={"classes": "per-class", "k": 60}))
    with pytest.raises(ConfigError, match="per-class has no resamples"):
        home.run(write_pool(tmp_path, score={"classes": "per-class", "resamples": 20}))


def test_an_earlier_sweep_goes_on_with_the_defaults_it_began_with(tmp_path: Path) -> None:
    """Form ``paper``, rule ``knee`` and banks, unless others are named; twice in a row."""
    home = Home(tmp_path / "runs")
    file = write_bank_sweep(tmp_path, "early")
    asked = ["search.objectives=paper", "select.rule=knee"]
    home.run(file, settings=asked)
    folder = find_sweep("early", home.path)
    tree = json.loads(folder.manifest_path.read_text())
    later = (("search", "objectives"), ("select", "rule"), ("evaluate", "sampling"))
    for section, name in later:
        del tree["spec"][section][name]  # as versions before these settings wrote it
    folder.manifest_path.write_text(json.dumps(tree))
    assert folder.read().settings.search.objectives == "paper"
    assert folder.read().settings.select.rule == "knee"
    for part in ("search", "ensemble"):
        shutil.rmtree(folder.path / part)
    runs = []
    for _ in range(2):
        result = home.run(file)
        runs.append(result.run_id)
        assert result.front.form == "paper" and result.selected.rule == "knee"
        warnings = [e.fields["message"] for e in home.events if e.kind == "warning"]
        # The recorder may come before the ensemble is written anew, and warn of that.
        (said,) = [message for message in warnings if "began with" in message]
        assert "began with search.objectives paper and select.rule knee" in said
        assert "and evaluate.sampling bank, which were defaults then" in said
        assert "as asked for" in result.table.sampling
    assert runs[0] == runs[1]
    named = home.run(file, settings=["search.objectives=capped", "select.rule=validated"])
    assert named.front.form == "capped" and named.selected.rule == "validated"
    assert named.run_id not in runs
    assert home.run(file).front.form == "capped"
    fresh = home.run(file, fresh=True)
    assert (fresh.front.form, fresh.selected.rule) == ("capped", "validated")
