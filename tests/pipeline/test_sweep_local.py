"""A whole small sweep, without Ray and MLflow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_sweep import files_of, tiny, write_sweep

from ensgan import data, ensemble, files, metrics, zoo
from ensgan.cluster import launch
from ensgan.config import SweepSpec, parse_spec
from ensgan.errors import ConfigError, EnsganError, InputError, StoreError
from ensgan.files import write_json
from ensgan.pipeline import disk, members
from ensgan.pipeline.events import Event
from ensgan.pipeline.folder import SweepFolder
from ensgan.pipeline.prepare import Inputs
from ensgan.pipeline.record import Recording
from ensgan.pipeline.results import SweepResult
from ensgan.pipeline.searching import find_front
from ensgan.store import MemoryStore
from ensgan.types import PoolScores, Samples
from ensgan.zoo import registry


class Home:
    """A storage folder whose sweeps are recorded in memory."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.store = MemoryStore()
        self.events: list[Event] = []
        self.reachable = True
        monkeypatch.setattr(launch, "open_store", self.open_store)

    def open_store(self, *_: object, **__: object) -> MemoryStore:
        if not self.reachable:
            raise StoreError("no tracking server at http://127.0.0.1:1")
        return self.store

    def run(self, spec: SweepSpec | None = None, **arguments: bool) -> SweepResult:
        self.events.clear()
        return launch.run_sweep(
            spec or parse_spec(tiny()),
            storage=self.path,
            address=None,
            on_event=self.events.append,
            **arguments,
        )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        yield Home(tmp_path_factory.mktemp("home"), patch)


@pytest.fixture(scope="module")
def result(home: Home) -> SweepResult:
    return home.run()


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
        ({"inter": "directed"}, ("intra_d:max", "inter_d:min:directed")),
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
    inputs = Inputs(None, tmp_path, "", real)  # type: ignore[arg-type]
    folder = SweepFolder(tmp_path)
    front, trials = find_front(folder, spec, scores, inputs, result.members, lambda *_: None)
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
    again = find_front(folder, spec, scores, inputs, result.members, lambda *_: None)
    assert again == (front, trials), "read from its file"


def test_every_stage_has_its_result(home: Home, result: SweepResult) -> None:
    assert [member.name for member in result.members] == [
        "SNGAN@3",
        "SNGAN@6",
        "ACGAN-Mod@3",
        "ACGAN-Mod@6",
    ]
    assert result.failed == {}
    assert result.front.distinct <= 11 and len(result.front) >= 1
    assert result.selected.point in result.front.points
    assert {row.strategy for row in result.table} == {"real", "best-single", "all", "selected"}
    assert set(result.seconds) >= {"train", "score", "search", "evaluate", "orchestration", "total"}


def test_online_scores_equal_the_pools(result: SweepResult) -> None:
    for i, member in enumerate(result.members):
        assert member.density == pytest.approx(result.scores.density[i], abs=1e-12)
        assert member.coverage == pytest.approx(result.scores.coverage[i], abs=1e-12)


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
    assert list(home.store.files(gan.run_id)) == ["grid-SNGAN/SNGAN.png"]  # nothing real
    assert gan.params["sha256.6"] == result.members[1].sha256
    for record in (parent, *children):
        assert record.params["dataset.key"] and record.params["seed"] == "7"
        assert record.tags["ensgan.dataset"] == "phantom"
    chosen = [child.tags["ensgan.selected"] for child in children if child.kind == "gan"]
    assert ",".join(chosen) == parent.tags["ensgan.selected"]
    files = set(home.store.files(result.run_id))
    assert files >= {
        *("report.html", "manifest.json", "ensemble/ensemble.json", "ensemble/README.md"),
        *("front/front.html", "front/front.png", "front/front.json", "grids/selected.png"),
        *("pool/overlap.png", "pool/membership.png", "pool/members.csv", "pool/scores.npz"),
        *("downstream/table.csv", "downstream/table.json", "privacy/memorisation.json"),
    }
    report = home.store.read(result.run_id, "report.html").decode()
    for name in result.selected.point.members:
        assert name in report


def test_memorisation_is_measured_and_on_the_card(home: Home, result: SweepResult) -> None:
    card = (result.ensemble / "README.md").read_text()
    assert "160 training images and with 60 real images held out" in card
    assert "all members together | 320 |" in card
    assert "extractor random (used for scoring" in card
    recorded = json.loads(home.store.read(result.run_id or "", "privacy/memorisation.json"))
    assert set(recorded["nearest"]) == set(result.selected.point.members)
    assert recorded["ensemble"]["images"] == 320


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


class Plain:
    """Pictures of a few bytes."""

    def grid(self, title: str, rows: Any) -> dict[str, bytes]:
        return {f"{title}.png": b"grid"}

    def front(self, *_: Any) -> dict[str, bytes]:
        return {"front.png": b"front"}

    def pool(self, *_: Any) -> dict[str, bytes]:
        return {"overlap.png": b"overlap"}

    def report(self, *_: Any) -> bytes:
        return b"report"


def test_an_unreliable_store_gets_every_run_once(
    home: Home, result: SweepResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Unreliable()
    recording = Recording(SweepFolder(result.folder), store, Plain())
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


def test_an_interrupted_run_ends_when_the_sweep_goes_on_with_other_settings(
    result: SweepResult, tmp_path: Path
) -> None:
    manifest = json.loads((result.folder / "manifest.json").read_text())
    kept = ("schema", "members", "spec", "planned", "dataset", "versions")
    begun = {**{key: manifest[key] for key in kept}, "status": "running"}
    folder, store = SweepFolder(tmp_path), MemoryStore()
    write_json(folder.manifest_path, begun)
    first = Recording(folder, store, Plain()).bring_up_to_date() or ""
    assert Recording(folder, store, Plain()).bring_up_to_date() == first
    begun["spec"]["search"]["trials"] = 41
    write_json(folder.manifest_path, begun)
    second = Recording(folder, store, Plain()).bring_up_to_date() or ""
    assert [store.get(run_id).status for run_id in (first, second)] == ["killed", "running"]


def test_the_artifact_makes_the_members_own_images(result: SweepResult) -> None:
    loaded = ensemble.load_ensemble(result.ensemble)
    made = loaded.sample(12, seed=3)
    assert set(made.member_names) == set(result.selected.point.members)
    again = loaded.sample(5, seed=3)
    np.testing.assert_array_equal(made.images[:5], again.images)


def test_samples_are_reproducible_from_the_weights(result: SweepResult) -> None:
    member = result.members[0]
    samples = Samples.load(member.samples)
    row = zoo.get("SNGAN").scaled(0.03125)
    generator = zoo.load_generator(member.weights, row, samples.shape, 2)
    import json

    record = next((result.folder / "members").glob(f"{member.name}-*.json"))
    assert json.loads(record.read_text())["sha256"] == member.sha256
    from ensgan.pipeline.prepare import derive_seed

    images = zoo.sample(generator, samples.labels, seed=derive_seed(7, "sample", "SNGAN"))
    np.testing.assert_array_equal(images, samples.images)


def test_running_again_repeats_nothing(home: Home, result: SweepResult) -> None:
    parts = ("train", "samples", "features", "scores", "search", "evaluate", "ensemble")
    before = files_of(result.folder, *parts)
    again = home.run()
    assert files_of(result.folder, *parts) == before
    assert again.run_id == result.run_id and again.selected == result.selected
    assert len(home.store.find(kind="sweep")) == 1


def test_a_later_stage_reuses_the_members(home: Home, result: SweepResult) -> None:
    before = files_of(result.folder, "train", "samples", "features", "scores")
    other = home.run(parse_spec(tiny(search={"max_size": 2})))
    assert files_of(result.folder, "train", "samples", "features", "scores") == before
    assert other.run_id != result.run_id
    assert all(len(point.members) == 2 for point in other.front)
    assert home.run().run_id == result.run_id, "the first settings have their run already"
    assert len(home.store.find(kind="sweep")) == 2


def test_other_training_is_refused_with_the_differences(home: Home, result: SweepResult) -> None:
    with pytest.raises(ConfigError) as caught:
        home.run(parse_spec(tiny(train={"steps": 8}, seed=1)))
    text = str(caught.value)
    assert "train.steps: 6 → 8" in text and "seed: 7 → 1" in text and "--fresh" in text


def test_changing_test_labels_cannot_change_the_choice(
    home: Home, result: SweepResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = data.load_dataset

    def relabelled(*arguments, **options):
        dataset = load(*arguments, **options)
        flipped = Samples(dataset.test.images, 1 - dataset.test.labels)
        return type(dataset)(
            dataset.name,
            dataset.train,
            dataset.val,
            flipped,
            dataset.class_names,
            dataset.licence,
            dataset.source,
        )

    monkeypatch.setattr(data, "load_dataset", relabelled)
    other = home.run(parse_spec(tiny(name="flipped")))
    assert other.selected.point == result.selected.point
    assert other.front.points == result.front.points
    assert other.table.to_json() != result.table.to_json()
    # The rule that looks at classifiers looks at their validation scores.
    rule = {"rule": "downstream", "points": 2, "repeats": 1}
    proof = {"strategies": ["selected"], "repeats": 1}
    with_flipped = home.run(parse_spec(tiny(name="flipped", select=rule, evaluate=proof)))
    monkeypatch.undo()
    honest = home.run(parse_spec(tiny(select=rule, evaluate=proof)))
    assert honest.selected.rule == "downstream"
    assert with_flipped.selected == honest.selected
    assert with_flipped.table.to_json() != honest.table.to_json()


def test_fresh_starts_over_and_keeps_the_old(home: Home) -> None:
    spec = parse_spec(tiny(name="again", train={"steps": 2}))
    first = home.run(spec)
    second = home.run(spec, fresh=True)
    assert second.run_id != first.run_id
    assert [m.sha256 for m in second.members] == [m.sha256 for m in first.members]
    assert len(list((home.path / "sweeps").glob("again.before-*"))) == 1


def test_an_absent_store_delays_recording_only(home: Home) -> None:
    home.reachable = False
    try:
        result = home.run(parse_spec(tiny(name="offline", train={"steps": 2})))
    finally:
        home.reachable = True
    assert result.run_id is None
    warnings = [event for event in home.events if event.kind == "warning"]
    assert "ensgan sync" in warnings[0].fields["message"]
    run_id = launch.sync_sweep("offline", storage=home.path)
    assert home.store.get(run_id).status == "finished"
    before = len(home.store.children(run_id))
    assert launch.sync_sweep("offline", storage=home.path) == run_id
    assert len(home.store.children(run_id)) == before == 7
    with pytest.raises(InputError, match="did you mean 'offline'"):
        launch.sync_sweep("offlin", storage=home.path)


def test_all_problems_with_the_data_come_before_training(home: Home) -> None:
    spec = parse_spec(tiny(name="bad", train={"batch": 64, "d_updates": 5}))
    with pytest.raises(ConfigError) as caught:
        home.run(spec)
    assert "SNGAN" in str(caught.value) and "ACGAN-Mod" in str(caught.value)
    assert not (home.path / "sweeps" / "bad").exists()


def test_a_full_disk_is_noticed_before_training(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "free_bytes", lambda path: 1 << 20)
    with pytest.raises(InputError, match=r"needs about .* MB more and .* has 1 MB free"):
        home.run(parse_spec(tiny(name="full")))
    assert not (home.path / "sweeps" / "full" / "manifest.json").exists()


def test_a_disk_that_fills_up_stops_the_sweep_which_goes_on_later(home: Home) -> None:
    spec = parse_spec(tiny(name="filled", train={"steps": 4}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "is_full", lambda folder: True)

        def cut_off(*_: object) -> None:
            raise RuntimeError("[enforce fail at inline_container.cc:672]")

        patch.setattr("torch.save", cut_off)
        with pytest.raises(StoreError, match=r"resume\.pt: No space left on device; make room"):
            home.run(spec)
    assert [event.kind for event in home.events if event.kind == "failed"] == []
    manifest = json.loads((home.path / "sweeps" / "filled" / "manifest.json").read_text())
    assert manifest["status"] == "running" and manifest["failed"] == {}
    assert len(home.run(spec).members) == 4


def test_one_failing_gan_does_not_stop_the_others(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_rows", dict(registry._rows))  # forgets the plugin's row again
    monkeypatch.setattr(registry, "_plugins", dict(registry._plugins))
    plugin = tmp_path / "broken.py"
    plugin.write_text(
        "import dataclasses\n"
        "from ensgan import zoo\n"
        "row = zoo.get('SNGAN')\n"
        "adam = dataclasses.replace(row.optimiser.generator, learning_rate=1e30)\n"
        "zoo.register(dataclasses.replace(row, name='Exploding',\n"
        "    optimiser=dataclasses.replace(row.optimiser, generator=adam)))\n"
    )
    path = write_sweep(
        tmp_path,
        name="failing",
        train={"gans": ["SNGAN", "Exploding"], "steps": 4, "plugins": ["broken.py"]},
    )
    result = launch.run_sweep(path, storage=home.path, address=None)
    assert [member.name for member in result.members] == ["SNGAN@2", "SNGAN@4"]
    assert "Exploding" in result.failed["Exploding"]
    with pytest.raises(EnsganError, match="only 0 members"):
        launch.run_sweep(
            path, settings=["name=none", "train.gans=[Exploding]"], storage=home.path, address=None
        )


def test_train_one_is_found_by_the_sweep(home: Home) -> None:
    spec = parse_spec(tiny(name="single", train={"steps": 2}))
    (first, *_) = launch.train_one(spec, "SNGAN", storage=home.path)
    before = first.weights.stat().st_mtime_ns
    result = home.run(spec)
    assert result.members[0].sha256 == first.sha256
    assert first.weights.stat().st_mtime_ns == before
    with pytest.raises(InputError, match="did you mean 'SNGAN'"):
        launch.train_one(spec, "SNGA", storage=home.path)
