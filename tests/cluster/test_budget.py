"""Budgets: what they count, that nothing is begun which cannot be finished, and what resumes."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from member_job import job
from ray.tune.search import Searcher

from ensgan.cluster.budget import Budget, Spending, make_budget, parse_deadline
from ensgan.cluster.trial_queue import TrialQueue, TrialRequest
from ensgan.cluster.tune_callback import SweepStopper
from ensgan.errors import InputError
from ensgan.files import read_json, write_json
from ensgan.sweep.live.order import TrainingOrder
from ensgan.sweep.live.trial_report import own_stop_path
from ensgan.sweep.member_job import MemberJob, MemberResult
from ensgan.train import TrainSettings

NAMES = ("SNGAN", "SAGAN", "BigGAN")
SETTINGS = TrainSettings(steps=30, snapshots=3, seed=0)


def member(gan: str, step: int, finishing: float = 0.0) -> MemberResult:
    return MemberResult(
        name=f"{gan}@{step}",
        weights=Path("w"),
        sha256="0",
        samples=Path("s"),
        features=Path("f"),
        density=0.5,
        coverage=0.5,
        intra_d=0.5,
        metrics={},
        health=(),
        seconds={},
        work=((0.0, 1.0), (1.0, 1.0 + finishing)),
    )


def test_budgets_are_read() -> None:
    assert make_budget(None, None) is None
    budget = make_budget(2.5, "6h")
    assert budget is not None and budget.gpu_hours == 2.5
    assert budget.deadline == pytest.approx(time.time() + 6 * 3600, abs=60)
    assert parse_deadline("90m", 0) == 5400


@pytest.mark.parametrize("hours", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_hours_that_make_no_sense(hours: float) -> None:
    with pytest.raises(InputError, match="--gpu-hours must be a number above 0, not"):
        make_budget(hours, None)


@pytest.mark.parametrize("text", ["soon", "6x", "nan", "infh", "", "9" * 400 + "h", "-6h"])
def test_deadlines_that_make_no_sense(text: str) -> None:
    with pytest.raises(InputError, match=r"--deadline '.*': write 90m"):
        parse_deadline(text, time.time())


def test_a_deadline_that_has_passed() -> None:
    with pytest.raises(InputError, match="has passed"):
        parse_deadline("2001-01-01T00:00", time.time())
    with pytest.raises(InputError, match="has passed"):
        parse_deadline("0h", time.time())


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


class Scene:
    """A queue without a cluster: trials run when the test says so."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, Clock()

    def jobs(self, names: tuple[str, ...], per_step: float | None) -> list[MemberJob]:
        return [
            replace(
                job(name, self.folder, effort=30.0, seconds_per_step=per_step), settings=SETTINGS
            )
            for name in names
        ]

    def queue(
        self,
        budget: Budget | None,
        names: tuple[str, ...] = NAMES,
        per_step: float | None = 3.6,
        share: float = 1.0,
    ) -> TrialQueue:
        """A snapshot takes 36 s, a hundredth of an hour."""
        jobs = self.jobs(names, per_step)
        self.spending = Spending(budget, jobs, dict.fromkeys(names, share), self.clock)
        requests = [TrialRequest(name, share, 0) for name in names]
        order = TrainingOrder(requests, {job.name: own_stop_path(job) for job in jobs})
        return TrialQueue(order, self.spending, self.folder / "stop")

    def start(self, queue: TrialQueue, trial: str) -> str:
        """The GAN of a trial that is handed out and gets its slot at once."""
        config = queue.suggest(trial)
        assert isinstance(config, dict), config
        queue.spending.trial_started(trial, config["gan"])
        return str(config["gan"])

    def snapshot(self, queue: TrialQueue, trial: str, step: int, seconds: float = 36.0) -> bool:
        """Let a trial make a snapshot; whether it goes on."""
        self.clock.now += seconds
        stopper = SweepStopper(queue)
        result = {"member": member(queue.running[trial].gan, step).to_json()}
        return not stopper(trial, result)

    def made(self, name: str, *steps: int) -> None:
        """Snapshots on disk."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        for step in steps:
            for suffix in ("safetensors", "json"):
                (folder / f"{name}@{step}.{suffix}").touch()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_without_a_budget_everything_runs_and_hours_are_written_down(scene: Scene) -> None:
    queue = scene.queue(None, NAMES[:1])
    scene.start(queue, "1")
    assert all(scene.snapshot(queue, "1", step) for step in (10, 20, 30))
    queue.on_trial_complete("1")
    assert queue.suggest("2") == Searcher.FINISHED
    assert read_json(scene.folder / "hours.json")["hours"] == pytest.approx(0.03)


def test_gans_are_trained_to_their_ends_in_order_and_the_rest_is_left_out(scene: Scene) -> None:
    queue = scene.queue(Budget(gpu_hours=0.042))  # four snapshots of nine
    assert scene.start(queue, "1") == "SNGAN"
    assert [scene.snapshot(queue, "1", step) for step in (10, 20, 30)] == [True, True, True]
    queue.on_trial_complete("1")
    assert scene.start(queue, "2") == "SAGAN"
    assert not scene.snapshot(queue, "2", 10), "a second snapshot would not be finished"
    queue.on_trial_complete("2")
    assert queue.suggest("3") == Searcher.FINISHED and queue.order.waiting[0].gan == "BigGAN"
    assert scene.spending.hours == pytest.approx(0.04)
    assert "does not finish another snapshot" in scene.spending.reason()


def test_a_shorter_gan_takes_what_is_left(scene: Scene) -> None:
    queue = scene.queue(Budget(gpu_hours=0.005), NAMES[:2])
    assert queue.suggest("1") == Searcher.FINISHED
    queue.spending.progress("SAGAN", 1, 1.0)  # a step per second: 10 s per snapshot
    assert scene.start(queue, "1") == "SAGAN"


def test_what_runs_has_the_hours_of_its_snapshot_set_aside(scene: Scene) -> None:
    queue = scene.queue(Budget(gpu_hours=0.0152), NAMES[:2])
    assert scene.start(queue, "1") == "SNGAN"
    assert queue.suggest("2") is None, "one and a half snapshots are no two"
    scene.spending.progress("SNGAN", 9, 10.0)  # faster than it ever was: 1 s for its snapshot
    assert scene.start(queue, "2") == "SAGAN"


def test_finishing_a_snapshot_counts_too(scene: Scene) -> None:
    queue = scene.queue(Budget(gpu_hours=0.0285), NAMES[:1])
    scene.start(queue, "1")
    scene.clock.now += 50
    slow = member("SNGAN", 10, finishing=20.0)
    assert not scene.spending.may_continue("1", slow), (
        "36 s of steps would fit, their scoring would not"
    )


def test_no_snapshot_is_begun_that_the_deadline_cuts(scene: Scene) -> None:
    queue = scene.queue(Budget(deadline=scene.clock.now + 80), NAMES[:2])
    scene.start(queue, "1")
    assert scene.snapshot(queue, "1", 10) and not scene.snapshot(queue, "1", 20)
    queue.on_trial_complete("1")
    assert queue.suggest("2") == Searcher.FINISHED
    scene.clock.now += 10
    assert scene.spending.reason() == "the deadline has come"


def test_half_a_gpu_costs_half(scene: Scene) -> None:
    queue = scene.queue(Budget(gpu_hours=1), NAMES[:1], share=0.5)
    queue.suggest("1")
    scene.clock.now += 1800  # waiting for a slot costs nothing
    assert scene.spending.hours == 0
    queue.spending.trial_started("1", queue.running["1"].gan)
    scene.clock.now += 3600
    assert scene.spending.hours == pytest.approx(0.5)


def test_a_snapshot_that_takes_longer_than_expected_ends_with_the_budget(scene: Scene) -> None:
    queue = scene.queue(Budget(gpu_hours=0.02), NAMES[:1])
    scene.start(queue, "1")
    scene.clock.now += 70
    queue.end_when_exhausted()
    assert not queue.stop_file.exists()
    scene.clock.now += 5
    queue.end_when_exhausted()
    assert queue.stop_file.exists()
    queue.on_trial_complete("1")
    assert queue.suggest("2") == Searcher.FINISHED
    assert scene.spending.reason() == "0.02 GPU-hours are spent"


def test_while_nothing_is_known_of_the_costs_trials_are_begun(scene: Scene) -> None:
    queue = scene.queue(Budget(gpu_hours=1e-6), per_step=None)
    assert scene.start(queue, "1") == "SNGAN"


def test_hours_are_counted_over_sessions(scene: Scene) -> None:
    budget = Budget(gpu_hours=0.032)
    queue = scene.queue(budget, NAMES[:2])
    scene.start(queue, "1")
    assert scene.snapshot(queue, "1", 10)
    scene.made("SNGAN", 10)
    scene.clock.now += 20  # then the driver is killed, 20 s into the next snapshot …
    queue.end_when_exhausted()  # … just after it has written the hours down
    again = scene.queue(budget, NAMES[:2])
    assert scene.spending.hours == pytest.approx(56 / 3600)
    assert scene.start(again, "1") == "SNGAN"
    assert scene.snapshot(again, "1", 10, seconds=5), "what is there costs nothing more"
    assert scene.spending.hours == pytest.approx(56 / 3600)
    assert not scene.snapshot(again, "1", 20)
    larger = scene.queue(None, NAMES[:2])
    assert {scene.start(larger, "1"), scene.start(larger, "2")} == set(NAMES[:2])


def test_snapshots_on_disk_are_taken_in_however_much_is_spent(scene: Scene) -> None:
    write_json(scene.folder / "hours.json", {"hours": 5.0})
    scene.made("BigGAN", 10, 20)
    queue = scene.queue(Budget(gpu_hours=1))
    assert scene.start(queue, "1") == "BigGAN"
    assert scene.snapshot(queue, "1", 10, seconds=1)
    assert not scene.snapshot(queue, "1", 20, seconds=1), "the third would be trained"
    queue.on_trial_complete("1")
    assert queue.suggest("2") == Searcher.FINISHED
    assert [request.gan for request in queue.order.waiting] == ["SNGAN", "SAGAN"]


def test_a_folder_without_hours_has_those_of_its_members(scene: Scene) -> None:
    record = scene.folder / "members" / "SNGAN@10-key.json"
    record.parent.mkdir()
    write_json(record, member("SNGAN", 10, finishing=35.0).to_json())
    scene.queue(Budget(gpu_hours=1))
    assert scene.spending.hours == pytest.approx(0.01)


def test_only_a_snapshot_with_its_record_counts_as_made(scene: Scene) -> None:
    (trained,) = scene.jobs(NAMES[:1], None)
    scene.made("SNGAN", 10)
    (trained.folder / "SNGAN@20.safetensors").touch()
    assert trained.made() == 1  # a session killed between weights and record has not made it


def test_costs_are_measured_or_inferred(scene: Scene) -> None:
    efforts = zip(scene.jobs(NAMES, None), (10.0, 30.0, 0.0), strict=True)
    jobs = [replace(job, effort=effort) for job, effort in efforts]
    spending = Spending(None, jobs, dict.fromkeys(NAMES, 1.0))
    assert spending.seconds("SNGAN", 5) is None
    spending.progress("SNGAN", 1, 0.5)
    assert spending.seconds("SNGAN", 5) == 10 and spending.seconds("SAGAN", 5) == pytest.approx(30)
    assert spending.seconds("BigGAN", 5) is None, "its effort is unknown"
    spending.trial_started("1", "SNGAN")
    spending.may_continue("1", member("SNGAN", 10, finishing=4.0))
    assert spending.seconds("SNGAN", 5) == 14
    earlier = Spending(None, scene.jobs(NAMES[:1], 1.5), {"SNGAN": 1.0})
    assert earlier.seconds("SNGAN", 2) == 3


def test_a_trial_that_is_lost_has_been_paid(scene: Scene) -> None:
    queue = scene.queue(Budget(gpu_hours=1), NAMES[:1])
    scene.start(queue, "1")
    scene.clock.now += 360
    scene.spending.trial_ended("1")  # its process died; Tune starts it again under its name
    scene.clock.now += 1000
    queue.spending.trial_started("1", queue.running["1"].gan)
    scene.clock.now += 360
    assert scene.spending.hours == pytest.approx(0.2)


def test_a_budget_needs_ray(tmp_path: Path) -> None:
    from tiny_sweep import tiny

    from ensgan.config import parse_spec
    from ensgan.launch import sweep as launch

    def run(**arguments: Any) -> None:
        launch.run_sweep(parse_spec(tiny()), storage=tmp_path, **arguments)

    with pytest.raises(InputError, match="a budget needs Ray"):
        run(address=None, budget=Budget(gpu_hours=1), fresh=True)
    assert not list(tmp_path.iterdir()), "refused before anything is begun or set aside"
