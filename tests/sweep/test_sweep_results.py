"""What a whole small sweep, without Ray and MLflow, leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from local_sweep import Home
from safetensors.numpy import load_file
from tiny_sweep import tiny

from ensgan import ensemble, metrics, zoo
from ensgan.config import parse_spec
from ensgan.errors import InputError
from ensgan.sweep import member_job as members
from ensgan.sweep import search_stage
from ensgan.sweep.events import SweepResult
from ensgan.sweep.executor import ONE_CPU, LocalExecutor, Needs
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.inputs import Inputs
from ensgan.sweep.records import DatasetFiles
from ensgan.sweep.search_stage import find_front
from ensgan.types import PoolScores, Samples


def test_every_stage_has_its_result(result: SweepResult) -> None:
    assert [member.name for member in result.members] == [
        "SNGAN@3",
        "SNGAN@6",
        "ACGAN-Mod@3",
        "ACGAN-Mod@6",
    ]
    assert result.failed == {}
    assert result.front.distinct <= 11 and len(result.front) >= 1
    # Validation may choose an ensemble beside the front, of half the pool at most.
    assert result.selected.rule == "validated" and result.front.form == "capped"
    chosen = result.selected.point.members
    assert len(chosen) == 2 and {*chosen} <= {member.name for member in result.members}
    assert {row.strategy for row in result.table} == {"real", "best-single", "all", "selected"}
    assert set(result.seconds) >= {"train", "score", "search", "evaluate", "orchestration", "total"}


def test_online_scores_equal_the_pools(result: SweepResult) -> None:
    for i, member in enumerate(result.members):
        assert member.density == pytest.approx(result.scores.density[i], abs=1e-12)
        assert member.coverage == pytest.approx(result.scores.coverage[i], abs=1e-12)


def test_samples_are_reproducible_from_the_weights(result: SweepResult) -> None:
    member = result.members[0]
    samples = Samples.load(member.samples)
    row = zoo.get("SNGAN").scaled(0.03125)
    generator = zoo.load_generator(member.weights, row, samples.shape, 2)
    record = next((result.folder / "members").glob(f"{member.name}-*.json"))
    assert json.loads(record.read_text())["sha256"] == member.sha256
    images = zoo.sample(generator, samples.labels, seed=members.purpose_seed(7, "sample", "SNGAN"))
    np.testing.assert_array_equal(images, samples.images)


def test_the_artifact_makes_the_members_own_images(result: SweepResult) -> None:
    loaded = ensemble.load_ensemble(result.ensemble)
    made = loaded.sample(12, seed=3)
    assert set(made.member_names) == set(result.selected.point.members)
    again = loaded.sample(5, seed=3)
    np.testing.assert_array_equal(made.images[:5], again.images)


def test_memorisation_is_measured_and_on_the_card(home: Home, result: SweepResult) -> None:
    card = (result.ensemble / "README.md").read_text()
    assert "160 training images and with 60 real images held out" in card
    assert "all members together | 320 |" in card
    assert "extractor random (used for scoring" in card
    recorded = json.loads(home.store.read(result.run_id or "", "privacy/memorisation.json"))
    assert set(recorded["nearest"]) == set(result.selected.point.members)
    assert recorded["ensemble"]["images"] == 320


def test_the_real_radii_are_measured_before_the_trials(
    home: Home, result: SweepResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial reads them from beside the real features."""
    features = next((result.folder / "features").glob("real-train-*.npy"))
    radii = features.with_name(f"{features.stem}-radii-5.npz")
    written = radii.stat().st_mtime
    assert all(path.stat().st_mtime > written for path in result.folder.glob("members/*.json"))
    monkeypatch.setattr("ensgan.metrics.reference.measure_balls", None)
    again = members.real_reference(features, 5, "auto")
    score = metrics.score_member(again, np.load(result.members[0].features))
    assert (score.density, score.coverage) == (
        result.members[0].density,
        result.members[0].coverage,
    )


@pytest.mark.parametrize(
    ("section", "objectives"),
    [
        ({"inter": "directed"}, ("intra_d:max:capped", "inter_d:min:directed")),
        (
            {"objectives": "precision-recall", "third": "members", "sampler": "nsga3"},
            ("precision_recall:max", "precision_recall_between:min", "members:min"),
        ),
        (
            {"objectives": "frechet", "components": 4, "third": "parameters"},
            ("frechet:max:1-d/scale", "frechet_between:min:1-d/scale", "parameters:min"),
        ),
        ({"third": "seconds", "sampler": "pareto-local"}, None),
    ],
)
def test_the_spec_chooses_the_objectives(
    result: SweepResult, tmp_path: Path, section: dict[str, Any], objectives: tuple[str, ...] | None
) -> None:
    spec = parse_spec(tiny(search=section))
    scores = PoolScores.load(next((result.folder / "scores").glob("scores-*.npz")))
    real = next((result.folder / "features").glob("real-train-*.npy"))
    scoring = members.Scoring(tmp_path, tmp_path, "", real, 5, "auto")
    inputs = Inputs(SweepFolder(tmp_path), spec, None, scoring)  # type: ignore[arg-type]
    front, _, trials = find_front(inputs, scores, result.members, lambda *_: None)
    if objectives is not None:
        assert front.objectives == objectives
    third = section.get("third")
    for point in front:
        if third == "members":
            assert dict(point.measures)[third] == len(point.members)
        if third == "seconds":
            spent = {m.name: m.seconds["sample"] for m in result.members}
            assert dict(point.measures)[third] == pytest.approx(sum(map(spent.get, point.members)))
        if third == "parameters":
            stored = sum(
                array.size
                for m in result.members
                if m.name in point.members
                for array in load_file(m.weights).values()
            )
            assert dict(point.measures)[third] == stored
    again = find_front(inputs, scores, result.members, lambda *_: None)
    assert (again[0], again[2]) == (front, trials), "read from its file"


def test_the_script_on_untrained_generators(home: Home, result: SweepResult) -> None:
    """Their Intra-d beside the snapshots'; the sweep's folder is left as it was."""
    before = {path for path in home.path.rglob("*") if path.is_file()}
    script = Path(__file__).parents[2] / "scripts" / "untrained.py"
    command = [sys.executable, str(script), "tiny", "--storage", str(home.path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = {row["gan"]: row for row in json.loads(done.stdout)["gans"]}
    assert set(rows) == {"SNGAN", "ACGAN-Mod"}
    for row in rows.values():
        assert 0 <= row["untrained"] <= 1
        for name, value in row["snapshots"].items():
            assert value == next(m.intra_d for m in result.members if m.name == name)
    assert {path for path in home.path.rglob("*") if path.is_file()} == before
    command[2] = "tyni"
    wrong = subprocess.run(command, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2 and "did you mean 'tiny'" in wrong.stderr


def test_blocks_of_a_large_pool_are_tasks_of_the_executor(
    result: SweepResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reversed(LocalExecutor):
        """Several slots, whose results do not come in order."""

        slots, blocks = 2, 0

        def at_once(self, needs: Needs) -> int:
            assert needs.gpus == 1, "one stream of blocks per GPU"
            return 2

        def mapper(self, needs: Needs = ONE_CPU) -> Any:
            assert needs.memory == 1 << 30, "two of them share the memory of the machine"

            def results(function: Any, tasks: Any) -> Any:
                for task in reversed(list(tasks)):
                    self.blocks += 1
                    yield function(task)

            return results

    monkeypatch.setattr(search_stage, "LARGE_POOL", 0)
    real = next((result.folder / "features").glob("real-train-*.npy"))
    scoring = members.Scoring(tmp_path, tmp_path, "", real, 5, "auto")
    dataset = DatasetFiles("phantom", ("a", "b"), "", {})
    inputs = Inputs(SweepFolder(tmp_path), parse_spec(tiny()), dataset, scoring)
    executor = Reversed()
    scores, path = search_stage.score(
        inputs, result.members, lambda *_: None, executor=lambda: executor
    )
    assert executor.blocks > 0 and path.parent == tmp_path / "scores"
    np.testing.assert_array_equal(scores.directed, result.scores.directed)
    np.testing.assert_array_equal(scores.density, result.scores.density)
    estimates = tiny(score={"approximate_inter": 0.5})
    inputs = Inputs(SweepFolder(tmp_path), parse_spec(estimates), dataset, scoring)
    found, other = search_stage.score(inputs, result.members, lambda *_: None)
    assert other != path and found.spread is not None
    front = find_front(inputs, found, result.members, lambda *_: None)[0]
    assert front.points == find_front(inputs, scores, result.members, lambda *_: None)[0].points
    with pytest.raises(InputError, match="frechet know no estimated overlaps: use capped or paper"):
        parse_spec(estimates | {"search": {"objectives": "frechet"}})
