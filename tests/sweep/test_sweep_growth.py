"""Sweeps whose file asks for more than before: only that is made, nothing earlier is lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from bank_sweep import write_bank_sweep, write_banks
from local_sweep import Home
from tiny_sweep import files_of, tiny
from typer.testing import CliRunner

from ensgan import metrics
from ensgan.cli.app import app
from ensgan.config import SweepSpec, parse_spec
from ensgan.errors import ConfigError
from ensgan.files import read_json
from ensgan.launch import sweep as launch
from ensgan.metrics.blocks import BlockTask
from ensgan.metrics.pool import REAL
from ensgan.report.content import collect
from ensgan.report.page import render
from ensgan.sweep import search_stage
from ensgan.sweep.folder import SweepFolder, sweep_folder
from ensgan.sweep.inputs import write_inputs
from ensgan.sweep.manifest import Earlier
from ensgan.sweep.planning.plan import look_ahead
from ensgan.sweep.planning.sweep_file import known_names
from ensgan.sweep.records import MemberResult
from ensgan.sweep.resolving import resolve
from ensgan.sweep.search_stage import score

NO_PROOF: dict[str, list[str]] = {"strategies": []}
MADE = ("samples", "features", "members", "banks")


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[set[str]]]:
    """Pairs of sets that were scored, by name, through the interface that tasks go through."""
    found: list[set[str]] = []
    score_pool = metrics.score_pool

    def counting(*arguments, mapper=map, **options):
        def counted(function, tasks):
            tasks = list(tasks)
            for task in tasks:
                if isinstance(task, BlockTask):
                    rows, columns = task.rows, task.columns
                    found.extend(
                        {rows[a].name, columns[b].name}
                        for a, b in zip(*task.wanted.nonzero(), strict=True)
                    )
            return mapper(function, tasks)

        return score_pool(*arguments, mapper=counted, **options)

    monkeypatch.setattr(search_stage.metrics, "score_pool", counting)
    yield found


def grown_banks(folder: Path, names: str, **sections: object) -> Path:
    """The bank sweep's file with these members."""
    path = write_bank_sweep(folder, **sections)
    write_banks(folder, "ABCDE")
    tree = yaml.safe_load(path.read_text())
    tree["evaluate"] = NO_PROOF
    tree["members"] = [{"name": name, "images": f"{name}.npz"} for name in names]
    path.write_text(yaml.safe_dump(tree))
    return path


def test_members_from_elsewhere_join_and_leave(tmp_path: Path, pairs: list[set[str]]) -> None:
    home = Home(tmp_path / "runs")
    first = home.run(grown_banks(tmp_path, "ABC"))
    folder = SweepFolder(first.folder)
    before, recorded = files_of(folder.path, *MADE), home.store.get(first.run_id or "")
    pairs.clear()
    second = home.run(grown_banks(tmp_path, "ABCDE"))
    assert len(pairs) == 2 * (3 + 1) + 1, "the new with the real images, the old, each other"
    assert all(pair & {"D", "E"} for pair in pairs)
    after = files_of(folder.path, *MADE)
    assert {name: after[name] for name in before} == before
    # As if all had been scored at once.
    whole = Home(tmp_path / "whole").run(grown_banks(tmp_path, "ABCDE", name="banks"))
    assert second.scores.names == whole.scores.names
    assert second.scores.density.tolist() == whole.scores.density.tolist()
    assert second.scores.masks.tolist() == whole.scores.masks.tolist()
    assert second.front.points == whole.front.points
    # The earlier run stays as it was, the new one says what it grew from.
    assert second.run_id != first.run_id
    assert home.store.get(first.run_id or "") == recorded
    tags = home.store.get(second.run_id or "").tags
    assert tags["ensgan.grown_from"] == first.run_id
    assert "2 members added (D, E)" in tags["ensgan.grown"]
    assert f"Grown from run {first.run_id}" in render(collect(home.store, second.run_id or ""))
    card = read_json(second.ensemble / "ensemble.json")["provenance"]["grown_from"]
    assert card == {"run": first.run_id, "members": 3, "added": ["D", "E"]}
    # Taking away computes no score; nothing is deleted.
    pairs.clear()
    third = home.run(grown_banks(tmp_path, "ACE"))
    assert not pairs and third.scores.names == ("A", "C", "E")
    assert {name: files_of(folder.path, *MADE)[name] for name in after} == after
    # And back: all of it is there already.
    home.run(grown_banks(tmp_path, "ABCDE"))
    assert not pairs and files_of(folder.path, *MADE) == after


def test_a_growth_that_was_interrupted_still_knows_the_scores(
    tmp_path: Path, pairs: list[set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "runs")
    home.run(grown_banks(tmp_path, "ABC"))

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("ensgan.sweep.runner.score", fail)
        home.run(grown_banks(tmp_path, "ABCD"))
    pairs.clear()
    # The file has changed once more before it goes on.
    home.run(grown_banks(tmp_path, "ABDE"))
    assert len(pairs) == 2 * (2 + 1) + 1


def test_damaged_or_foreign_scores_are_not_taken_over(
    tmp_path: Path, pairs: list[set[str]]
) -> None:
    home = Home(tmp_path / "runs")
    folder = SweepFolder(home.run(grown_banks(tmp_path, "ABC")).folder)
    scores = folder.read().scores
    assert scores is not None
    other = scores.with_name("scores-0123456789abcdef.npz")
    scores.rename(other)
    folder.read().model_copy(update={"scores": other}).save(folder.manifest_path)
    pairs.clear()
    home.run(grown_banks(tmp_path, "ABCD"), settings=["score.k=4"])
    assert len(pairs) == 4 + 6


LITTLE = {"gans": ["SNGAN"], "steps": 2, "snapshots": 2}


def little(name: str, **training: object) -> SweepSpec:
    """A sweep of one GAN without classifiers."""
    train = {**LITTLE, **training}
    return parse_spec(tiny(name=name, train=train, evaluate=NO_PROOF), known=known_names())


def outlook(home: Home, spec: SweepSpec, **options: bool) -> list[str]:
    folder = sweep_folder(home.path, spec.name)
    before = {path: path.stat().st_mtime_ns for path in sorted(folder.path.rglob("*"))}
    said = list(look_ahead(resolve(spec), folder, **options).sentences)
    assert {path: path.stat().st_mtime_ns for path in sorted(folder.path.rglob("*"))} == before
    return said


def steps_trained(home: Home) -> list[tuple[str, int]]:
    return [
        (event.fields["gan"], event.fields["step"])
        for event in home.events
        if event.kind == "progress" and "gan" in event.fields
    ]


def test_a_gan_and_more_snapshots_join(tmp_path: Path, pairs: list[set[str]]) -> None:
    home = Home(tmp_path)
    assert outlook(home, little("grows")) == []
    first = home.run(little("grows"))
    assert outlook(home, little("grows")) == ["nothing to do: 'grows' is finished"]
    grown = little("grows", gans=["SNGAN", "ACGAN-Mod"], steps=4, snapshots=4)
    names = "SNGAN@3, SNGAN@4, ACGAN-Mod@1, ACGAN-Mod@2, ACGAN-Mod@3, ACGAN-Mod@4"
    assert outlook(home, grown) == [f"would add 6 members ({names})"]
    before = files_of(first.folder, "samples", "features", "members")
    pairs.clear()
    second = home.run(grown)
    trained = steps_trained(home)
    assert trained == [("SNGAN", 3), ("SNGAN", 4), *(("ACGAN-Mod", i) for i in (1, 2, 3, 4))]
    assert len(pairs) == 6 * 2 + 15 + 6
    after = files_of(first.folder, *MADE)
    assert {name: after[name] for name in before} == before
    whole = Home(tmp_path / "whole").run(grown)
    assert [m.sha256 for m in second.members] == [m.sha256 for m in whole.members]
    assert second.scores.directed.tobytes() == whole.scores.directed.tobytes()
    assert second.front.points == whole.front.points
    # Fewer snapshots and GANs: nothing is computed, not even an executor opened.
    pairs.clear()
    assert outlook(home, little("grows")) == [
        f"would take away 6 members ({names}); their files stay"
    ]
    third = home.run(little("grows"))
    assert third.run_id == first.run_id and not pairs and not steps_trained(home)
    assert outlook(home, grown) == [f"would add 6 members ({names}), 6 of them trained already"]
    home.run(grown)
    assert not steps_trained(home) and not pairs


def test_snapshots_between_old_ones_train_again_only_with_consent(tmp_path: Path) -> None:
    home = Home(tmp_path)
    first = home.run(little("denser", steps=4))
    dense = little("denser", steps=4, snapshots=4)
    with pytest.raises(ConfigError, match=r"SNGAN@1, SNGAN@3: SNGAN has no state.*--retrain"):
        home.run(dense)
    with pytest.raises(ConfigError, match=r"refused because sweep 'denser' would train again"):
        outlook(home, dense)
    with pytest.raises(ConfigError, match=r"--retrain"):
        launch.train_one(dense, "SNGAN", storage=home.path)
    assert SweepFolder(first.folder).read().status == "finished"
    assert outlook(home, dense, retrain=True)[-1] == (
        "would train SNGAN from its start again for SNGAN@1, SNGAN@3"
    )
    second = home.run(dense, retrain=True)
    assert steps_trained(home) == [("SNGAN", 1), ("SNGAN", 2), ("SNGAN", 3)]
    assert [member.name for member in second.members] == [f"SNGAN@{i}" for i in (1, 2, 3, 4)]
    assert [m.sha256 for m in second.members[1::2]] == [m.sha256 for m in first.members]


def test_what_finished_members_were_made_with_stays(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.run(little("made"))
    manifest = (tmp_path / "sweeps" / "made" / "manifest.json").read_bytes()
    changes = {"learning_rate": 2.0, "width": 0.125, "batch": 4, "weights": "raw"}
    for name, value in changes.items():
        with pytest.raises(ConfigError, match=r"train\.SNGAN\.\S+: .* → ") as caught:
            home.run(little("made", **{name: value}, gans=["SNGAN", "ACGAN-Mod"]))
        assert name == "width" or f"train.SNGAN.{name}: " in str(caught.value)
    # Of a GAN that was not there before, all may be chosen.
    overrides = {"ACGAN-Mod": {"learning_rate": 2.0}}
    assert outlook(home, little("made", gans=["SNGAN", "ACGAN-Mod"], overrides=overrides))
    assert (tmp_path / "sweeps" / "made" / "manifest.json").read_bytes() == manifest


def test_dry_run_says_what_would_happen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = Home(tmp_path / "runs")
    home.run(grown_banks(tmp_path, "ABC"))

    def dry(*extra: str, code: int = 0) -> str:
        arguments = ["sweep", str(tmp_path / "banks.yaml"), "--dry-run", *extra]
        done = CliRunner().invoke(app, [*arguments, "--storage", str(home.path)])
        assert (done.exception.exit_code if code else done.exit_code) == code
        return " ".join((str(done.exception) if code else done.output).split())

    assert dry() == "nothing to do: 'banks' is finished"
    assert dry("--fresh").startswith("banks: 3 members")
    assert "would run later stages again (search.trials: 20 → 30)" in dry(
        "--set", "search.trials=30"
    )
    refused = dry("--set", "seed=4", code=2)
    assert refused.startswith("refused because") and "seed: 3 → 4" in refused
    grown_banks(tmp_path, "BCDE")
    assert "would add 2 members (D, E)" in dry() and "would take away 1 member (A)" in dry()
    assert json.loads(dry("--json"))["would"][0] == "would add 2 members (D, E)"


def test_growth_scores_only_new_pairs(tmp_path: Path, pairs: list[set[str]]) -> None:
    """A pool of 110 members that grows by 5: 5 × 110 + 10 pairs, and 5 with the real images."""
    home = Home(tmp_path)
    folder = SweepFolder(home.run(grown_banks(tmp_path, "ABC")).folder)
    inputs = write_inputs(resolve(folder.read().settings), folder)
    random = np.random.default_rng(0)
    template = next(iter(folder.read().members.values()))
    real = np.load(inputs.scoring.reference)

    def member(name: str) -> MemberResult:
        path = folder.file("features", f"{name}-x.npy")
        np.save(path, random.normal(real.mean(), real.std(), (12, real.shape[1])).astype("f4"))
        return template.model_copy(update={"name": name, "features": path, "contents": {}})

    old = [member(f"M{i}") for i in range(110)]
    pairs.clear()
    _, path = score(inputs, old, lambda *_: None)
    assert len(pairs) == 110 * 109 // 2 + 110
    pairs.clear()
    earlier = Earlier(scores=path, features={m.name: m.features for m in old})
    grown = [*old, *(member(f"N{i}") for i in range(5))]
    scores, _ = score(inputs, grown, lambda *_: None, earlier=earlier)
    among = [pair for pair in pairs if REAL not in pair]
    assert len(among) == 5 * 110 + 10 and len(pairs) - len(among) == 5
    shutil.rmtree(folder.path / "scores")
    pairs.clear()
    whole, _ = score(inputs, grown, lambda *_: None)
    assert scores.directed.tobytes() == whole.directed.tobytes()
    assert len(pairs) == 115 * 114 // 2 + 115
