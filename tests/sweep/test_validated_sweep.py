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
from ensgan.downstream import LinearProbe
from ensgan.errors import ConfigError, InputError, IntegrityError
from ensgan.report.content import collect
from ensgan.report.page import render
from ensgan.report.views import members_csv
from ensgan.sweep.events import SweepResult
from ensgan.sweep.folder import find_sweep
from ensgan.sweep.live.status import sweep_status
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


def write_mixed_pool(folder: Path, **sections: object) -> Path:
    """A, B and C are honest (A and B err at times), D and E swap labels, F makes one image."""
    file = write_pool(folder, **sections)
    for seed, (bank, wrong) in enumerate({"A": 8, "B": 4}.items()):
        made = blobs(80, 10 + seed)
        made.labels[:wrong] = 1 - made.labels[:wrong]
        np.savez(folder / f"{bank}.npz", images=made.images, labels=made.labels)
    made = blobs(80, 15)
    np.savez(folder / "F.npz", images=np.repeat(made.images[:1], 80, 0), labels=made.labels)
    return file


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Path]:
    folder = tmp_path_factory.mktemp("judged")
    home = ToyHome(folder / "runs", toy())
    file = write_mixed_pool(folder)
    home.run(file)
    return home, file


def test_bad_labels_are_found_and_the_choice_is_told_everywhere(
    judged: tuple[Home, Path],
) -> None:
    home, _ = judged
    folder = find_sweep("judged", home.path)
    manifest = folder.read()
    assert manifest.selected is not None and manifest.validation is not None
    assert {*manifest.selected.members} <= {*"ABC"}
    assert manifest.labels is not None and manifest.labels.real > 0.7
    shares = manifest.label_shares
    assert list(shares) == [*BANKS]
    assert min(shares[name] for name in "ABC") > 0.7 > 0.3 > max(shares[name] for name in "DE")
    assert shares["F"] == 0.5
    assert len(manifest.selected.members) <= 3  # half of all
    reason = manifest.selected.reason
    assert "validation AUC" in reason and "runner-up" in reason
    found = json.loads(manifest.validation.read_text())
    assert all({*each["members"]} <= {*"ABC"} for each in found["shortlist"])
    assert found["trained"] >= len(found["shortlist"]) == 4  # three pairs and all three
    run_id = folder.run_id() or ""
    assert json.loads(home.store.read(run_id, "select/validated.json")) == found
    assert home.store.get(run_id).tags["ensgan.rule"] == "validated"
    assert "validated: " in home.store.read(run_id, "ensemble/README.md").decode()
    page = render(collect(home.store, run_id))
    assert "Finalists of 4 ensembles" in page and 'class="chosen"' in page
    caution = "of the images of D, E, F, of the others&#39; "
    assert caution in page and "so G* was chosen without them" in page
    assert "label consistency</th>" in page and '<td class="figure">50.0%</td>' in page
    assert (
        "so G\\* was chosen without them" in home.store.read(run_id, "ensemble/README.md").decode()
    )
    head, *rows = home.store.read(run_id, "pool/members.csv").decode().splitlines()
    column = head.split(",").index("label_consistency")
    assert {row.split(",")[0]: float(row.split(",")[column]) for row in rows} == shares
    assert {row["gan"]: row["label_consistency"] for row in sweep_status(folder)["gans"]} == shares
    stages = [event.fields for event in home.events if event.kind == "stage"]
    assert {"stage": "select", "state": "start"} in stages
    done = [e.fields for e in home.events if e.fields.get("stage") == "select" and "of" in e.fields]
    assert (done[-1]["done"], done[-1]["of"]) == (found["trained"], found["trained"])


def test_a_choice_is_made_once(judged: tuple[Home, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Found when the sweep goes on, and made again to the bit where its file is damaged or gone."""
    home, file = judged
    folder = find_sweep("judged", home.path)
    before = folder.manifest_path.read_bytes()
    validation = folder.read().validation
    assert validation is not None
    content = validation.read_bytes()
    for damage in (b"{", b'{"reason": 1}', None):
        validation.unlink() if damage is None else validation.write_bytes(damage)
        home.run(file)
        assert validation.read_bytes() == content
        assert folder.manifest_path.read_bytes() == before

    def refuse(*_: object) -> None:
        raise AssertionError("probed again")

    shutil.rmtree(folder.path / "ensemble")  # the sweep goes on behind the choice
    monkeypatch.setattr(LinearProbe, "__call__", refuse)
    home.run(file)
    assert folder.manifest_path.read_bytes() == before


@pytest.mark.parametrize("part", ["samples", "features"])
def test_a_choice_from_changed_members_is_refused(
    judged: tuple[Home, Path], tmp_path: Path, part: str
) -> None:
    home, file = judged
    shutil.copytree(home.path, tmp_path / "runs")
    copy = ToyHome(tmp_path / "runs", toy())
    folder = find_sweep("judged", copy.path)
    member, other = folder.read().members["A"], folder.read().members["B"]
    shutil.copyfile(getattr(other, part), getattr(member, part))
    shutil.rmtree(folder.path / "ensemble")
    for file_ in (folder.path / "select").iterdir():
        file_.unlink()
    with pytest.raises(IntegrityError, match="has changed since A was made"):
        copy.run(file)


def test_features_that_tell_no_classes_apart_are_said(tmp_path: Path) -> None:
    """Real labels without any bearing on the images: capped Intra-d decides."""
    dataset = toy()
    rng = np.random.default_rng(0)
    for split in dataset.splits().values():
        rng.shuffle(split.labels)
    home = ToyHome(tmp_path / "runs", dataset)
    result = home.run(write_pool(tmp_path))
    assert "do not tell the classes of toy apart" in result.selected.reason
    assert "so the largest capped Intra-d decides" in result.selected.reason
    (said,) = [each for each in result.cautions if "could not be checked" in each]
    assert "the features (random) do not tell" in said and "by chance 50%" in said
    assert find_sweep("judged", home.path).read().labels is None


def test_a_floor_keeps_members_out(judged: tuple[Home, Path], tmp_path: Path) -> None:
    """Members below it enter no candidate; one that leaves no ensemble is refused."""
    home, file = judged
    shutil.copytree(home.path, tmp_path / "runs")
    copy = ToyHome(tmp_path / "runs", toy())
    folder = find_sweep("judged", copy.path)
    shares = folder.read().label_shares
    floor = max(shares["B"], shares["C"]) - 1e-3
    assert shares["A"] < min(shares["B"], shares["C"]) < floor
    with pytest.raises(
        InputError,
        match=r"floor .* leaves 1 of 6 members, .* needs 2: lower it to 0\.\d+, or",
    ):
        copy.run(file, settings=[f"score.consistency_floor={floor}"])
    floor = min(shares["B"], shares["C"])
    result = copy.run(file, settings=[f"score.consistency_floor={floor}"])
    assert {*result.selected.point.members} == {*"BC"}
    for asked, why in {
        "1.5": "less than or equal to 1",
        "-1": "greater than or equal to 0",
        "high": "valid number",
    }.items():
        with pytest.raises(ConfigError, match=rf"score\.consistency_floor.*{why}"):
            copy.run(file, settings=[f"score.consistency_floor={asked}"])
    asked = ["score.consistency_floor=0.5", "select.rule=knee"]
    with pytest.raises(ConfigError, match=r"is for select\.rule validated, not for knee"):
        copy.run(file, settings=asked)


def test_a_sweep_without_label_consistency_opens(judged: tuple[Home, Path], tmp_path: Path) -> None:
    """As earlier versions wrote it: reported without the column, measured when it goes on."""
    home, file = judged
    shutil.copytree(home.path, tmp_path / "runs")
    copy = ToyHome(tmp_path / "runs", toy())
    folder = find_sweep("judged", copy.path)
    tree = json.loads(folder.manifest_path.read_text())
    labels = tree.pop("labels")
    folder.manifest_path.write_text(json.dumps(tree))
    manifest = folder.read()
    assert manifest.labels is None and manifest.label_shares == {}
    row = members_csv(manifest).decode().splitlines()[1].split(",")
    assert row[4] == ""
    assert {row["label_consistency"] for row in sweep_status(folder)["gans"]} == {None}
    copy.run(file)
    assert json.loads(folder.manifest_path.read_text())["labels"] == labels


def test_too_few_honest_members_are_said_and_nobody_leaves(tmp_path: Path) -> None:
    home = ToyHome(tmp_path / "runs", toy())
    members = [{"name": bank, "images": f"{bank}.npz"} for bank in "ADE"]
    result = home.run(write_pool(tmp_path, members=members))
    assert len(result.selected.point.members) == 2
    (said,) = [caution for caution in result.cautions if "asked for" in caution]
    assert "of the images of D, E, of the others' " in said
    assert said.endswith("they stay, because too few others remain")


def test_another_test_split_changes_nothing(judged: tuple[Home, Path], tmp_path: Path) -> None:
    home, _ = judged
    other = ToyHome(tmp_path / "runs", toy(n_test=64))
    other.run(write_mixed_pool(tmp_path))
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
    assert find_sweep("judged", home.path).read().labels is None
    assert not any("asked for" in caution for caution in result.cautions)
    with pytest.raises(ConfigError, match=r"consistency_floor: needs classes .*has one class only"):
        home.run(file, settings=["score.consistency_floor=0.5"])


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
    first = home.run(write_pool(tmp_path, select=rule))
    joint = first.scores
    assert any("rule knee does not look at labels" in caution for caution in first.cautions)
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
