"""Budgets: when they are spent, who leaves, in which order the rest goes on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from member_job import job
from ray.tune.search import Searcher

from ensgan.cluster.resources import Order
from ensgan.cluster.rounds import RoundQueue
from ensgan.errors import InputError
from ensgan.sweep.events import Event
from ensgan.sweep.member_job import MemberResult
from ensgan.sweep.planning.budget import Budget, dominated, make_budget, parse_deadline, promise
from ensgan.sweep.planning.pace import Costs, widths


def member(
    gan: str, step: int, density: float, coverage: float, seconds: float = 36.0
) -> MemberResult:
    total = density + coverage
    return MemberResult(
        name=f"{gan}@{step}",
        weights=Path("w"),
        sha256="0",
        samples=Path("s"),
        features=Path("f"),
        density=density,
        coverage=coverage,
        intra_d=2 * density * coverage / total if total else 0.0,
        metrics={},
        health=(),
        seconds={},
        work=((0.0, seconds),),
    )


def history(gan: str, *scores: tuple[float, float]) -> list[MemberResult]:
    return [member(gan, i + 1, *score) for i, score in enumerate(scores)]


GOOD = {"A": history("A", (0.8, 0.8), (0.9, 0.9)), "B": history("B", (0.9, 0.8), (0.9, 0.8))}


def test_who_is_far_behind_and_does_not_learn_leaves() -> None:
    histories = {**GOOD, "C": history("C", (0.1, 0.1), (0.12, 0.11))}
    reason = dominated("C", histories, planned=5)
    assert reason is not None and "A, B" in reason
    assert dominated("A", histories, planned=5) is None


def test_who_still_learns_fast_stays() -> None:
    histories = {**GOOD, "C": history("C", (0.1, 0.1), (0.4, 0.4))}
    assert dominated("C", histories, planned=5) is None


def test_who_is_good_in_one_of_the_two_stays() -> None:
    histories = {**GOOD, "C": history("C", (1.5, 0.1), (1.5, 0.1))}
    assert dominated("C", histories, planned=5) is None


def test_nothing_is_said_of_one_snapshot_or_against_one_rival() -> None:
    assert dominated("C", {**GOOD, "C": history("C", (0.1, 0.1))}, planned=5) is None
    alone = {"A": GOOD["A"], "C": history("C", (0.1, 0.1), (0.1, 0.1))}
    assert dominated("C", alone, planned=5) is None


unit = st.floats(0, 1)


@given(st.lists(st.tuples(unit, unit), min_size=1, max_size=5))
def test_a_promise_is_never_below_what_is_there(scores: list[tuple[float, float]]) -> None:
    hope = promise(history("A", *scores), planned=5)
    assert hope.density >= max(s[0] for s in scores)
    assert max(s[1] for s in scores) <= hope.coverage <= 1


def test_budgets_are_read() -> None:
    assert make_budget(None, None, None) is None
    budget = make_budget(2.5, "6h", None)
    assert budget is not None and budget.gpu_hours == 2.5 and budget.scheduler == "front"
    assert budget.deadline == pytest.approx(time.time() + 6 * 3600, abs=60)
    assert parse_deadline("90m", 0) == 5400
    for text in ("soon", "6x", "2001-01-01T00:00"):
        with pytest.raises(InputError, match="--deadline"):
            parse_deadline(text, time.time())
    with pytest.raises(InputError, match="--gpu-hours must be above 0, not -1"):
        make_budget(-1, None, None)
    with pytest.raises(InputError, match="front or asha, not 'hyperband'"):
        make_budget(None, None, "hyperband")


@pytest.fixture
def queue_of(tmp_path: Path) -> Any:
    def make(
        budget: Budget,
        gans: str = "ABC",
        events: list[Event] | None = None,
        made: dict[str, int] | None = None,
    ) -> RoundQueue:
        return RoundQueue(
            [Order(gan, 1, 0) for gan in gans],
            None,
            budget,
            Costs(dict.fromkeys(gans, 3), dict.fromkeys(gans, 1.0)),
            len(gans),
            tmp_path / "stop",
            (events if events is not None else []).append,
            made,
        )

    return make


def test_rounds_go_breadth_first_and_by_promise(queue_of: Any) -> None:
    queue = queue_of(Budget(deadline=time.time() + 1000))
    scores = {"A": (0.2, 0.2), "B": (0.9, 0.9), "C": (0.5, 0.5)}
    first = [queue.suggest(gan)["gan"] for gan in "ABC"]
    assert first == ["A", "B", "C"] and queue.suggest("x") is None
    for gan in "ABC":
        queue.note(gan, member(gan, 1, *scores[gan]))
        queue.on_trial_complete(gan)
    second = [queue.suggest(f"{gan}2") for gan in "ABC"]
    assert [(config["gan"], config["until"]) for config in second] == [
        ("B", 2),
        ("C", 2),
        ("A", 2),
    ]


def test_a_spent_budget_ends_the_sweep_and_says_so(queue_of: Any, tmp_path: Path) -> None:
    events: list[Event] = []
    queue = queue_of(Budget(gpu_hours=0.021), "AB", events)
    assert queue.suggest("1")["gan"] == "A"
    queue.note("1", member("A", 1, 0.5, 0.5))  # 36 s are 0.01 hours
    queue.on_trial_complete("1")
    assert queue.suggest("2")["gan"] == "B"
    queue.note("2", member("B", 1, 0.5, 0.5, seconds=40))  # slower than thought
    assert queue.suggest("3") is None and (tmp_path / "stop").exists()
    queue.on_trial_complete("2")
    assert queue.suggest("3") == Searcher.FINISHED
    assert [event.fields["gan"] for event in events] == ["A", "B"]
    assert queue.stopped["A"] == "0.021 GPU-hours are spent"


def test_a_budget_too_small_for_all_carries_some_to_the_end(queue_of: Any) -> None:
    gans = "ABCDEFGH"
    queue = queue_of(Budget(gpu_hours=0.121), gans)  # 12 snapshots of 24
    order: list[tuple[str, int]] = []
    running: list[tuple[str, str, int]] = []
    while True:
        trial = str(len(order))
        config = queue.suggest(trial)
        if isinstance(config, dict):
            order.append((config["gan"], config["until"]))
            running.append((trial, config["gan"], config["until"]))
            if len(running) < 2:
                continue
        if not running:
            break
        trial, gan, until = running.pop(0)
        score = 0.1 * until + 0.02 * gans.index(gan)
        queue.note(trial, member(gan, until, score, score))
        queue.on_trial_complete(trial)
    made = [sum(until == round_ for _, until in order) for round_ in (1, 2, 3)]
    assert widths(3, [12] * 8) == (4, 4, 3)
    assert made == [4, 4, 4]  # the odd snapshot that is left takes the fourth GAN to its end
    assert [gan for gan, until in order if until == 3] == ["D", "C", "B", "A"]  # the best first


def test_no_snapshot_is_begun_that_cannot_be_finished(queue_of: Any) -> None:
    events: list[Event] = []
    queue = queue_of(Budget(gpu_hours=0.035), "AB", events)  # three snapshots and a half
    queue.suggest("1")
    queue.note("1", member("A", 1, 0.5, 0.5))
    queue.on_trial_complete("1")
    assert queue.suggest("2")["gan"] == "B" and queue.suggest("3")["gan"] == "A"
    assert queue.waiting == []
    for trial, gan, step in (("2", "B", 1), ("3", "A", 2)):
        queue.note(trial, member(gan, step, 0.5, 0.5))
        queue.on_trial_complete(trial)
    assert queue.suggest("4") == Searcher.FINISHED
    assert queue.stopped == dict.fromkeys("AB", "the budget is spent but for less than a snapshot")


def test_what_is_running_has_its_hours_promised(queue_of: Any) -> None:
    queue = queue_of(Budget(gpu_hours=0.0602), "AB")  # all six snapshots, without slack
    for number, gan in enumerate("ABAB"):
        config = queue.suggest(str(number))
        assert config["gan"] == gan
        queue.note(str(number), member(gan, config["until"], 0.5, 0.5))
        queue.on_trial_complete(str(number))
    assert queue.suggest("4")["until"] == 3
    assert queue.suggest("5") is None  # the one that runs will leave less than it needs


def test_no_snapshot_is_begun_that_the_deadline_cuts(queue_of: Any) -> None:
    queue = queue_of(Budget(deadline=time.time() + 30), "AB")
    queue.suggest("1")
    queue.note("1", member("A", 1, 0.5, 0.5))
    queue.on_trial_complete("1")
    assert queue.suggest("2") == Searcher.FINISHED  # 36 s each


def test_a_cheaper_snapshot_takes_what_is_left(queue_of: Any) -> None:
    queue = queue_of(Budget(gpu_hours=0.042), "AB")
    for trial, gan, seconds in (("1", "A", 72), ("2", "B", 36)):
        assert queue.suggest(trial)["gan"] == gan
        queue.costs.hear("B", 0.01)
        queue.note(trial, member(gan, 1, 0.9 if gan == "A" else 0.1, 0.5, seconds))
        queue.on_trial_complete(trial)
    assert queue.suggest("3")["gan"] == "B"  # A is more promising, but 43 s are left


def test_until_a_cost_is_known_hours_are_not_spread(queue_of: Any) -> None:
    queue = queue_of(Budget(gpu_hours=10), "ABC")
    assert queue.suggest("1")["gan"] == "A" and queue.suggest("2")["gan"] == "B"
    assert queue.suggest("3") is None
    queue.heard({"gan": "A", "steps": 300, "steps_per_second": 100.0})
    assert queue.suggest("3")["gan"] == "C"


def test_under_a_deadline_no_slot_is_left_idle(queue_of: Any) -> None:
    queue = queue_of(Budget(deadline=time.time() + 50), "ABCD")
    assert [queue.suggest(gan)["gan"] for gan in "ABCD"] == list("ABCD")
    for until in (2, 3):
        for gan in "BCD":
            queue.note(gan, member(gan, until - 1, 0.1, 0.1))
            queue.on_trial_complete(gan)
        assert {queue.suggest(gan)["until"] for gan in "BCD"} == {until}
    # A still trains its first: with hours to save the third of three would wait for it.


def test_only_a_snapshot_with_its_record_counts_as_made(tmp_path: Path) -> None:
    trained = job(folder=tmp_path)
    trained.folder.mkdir()
    assert trained.made() == 0
    for name, suffixes in (("SNGAN@5", ("safetensors", "json")), ("SNGAN@10", ("safetensors",))):
        for suffix in suffixes:
            (trained.folder / f"{name}.{suffix}").touch()
    assert trained.made() == 1  # a session killed between weights and record has not made it


def test_what_an_earlier_session_made_is_taken_in_whatever_is_spent(queue_of: Any) -> None:
    events: list[Event] = []
    queue = queue_of(Budget(gpu_hours=0.03), "ABC", events, {"B": 2, "C": 2})
    assert queue.suggest("1") == {"gan": "B", "cpus": 1, "gpus": 0, "until": 2}
    for step in (1, 2):
        queue.note("1", member("B", step, 0.5, 0.5, seconds=60))
    queue.on_trial_complete("1")
    assert queue.suggest("2")["gan"] == "C"
    for step in (1, 2):
        queue.note("2", member("C", step, 0.5, 0.5, seconds=60))
    queue.on_trial_complete("2")
    assert queue.suggest("3") == Searcher.FINISHED
    assert {gan: len(found) for gan, found in queue.histories.items()} == {"B": 2, "C": 2}
    assert sorted(queue.stopped) == ["A", "B", "C"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the queue believes in, the first item."""
    now = [1e9]
    monkeypatch.setattr("ensgan.cluster.rounds.time.time", lambda: now[0])
    return now


def test_waiting_for_a_slot_costs_nothing(queue_of: Any, clock: list[float]) -> None:
    queue = queue_of(Budget(gpu_hours=1), "AB")
    for trial in ("1", "2"):
        queue.suggest(trial)
    queue.started("1")
    clock[0] += 1800
    assert queue.used == pytest.approx(0.5)
    queue.started("2")
    clock[0] += 360
    assert queue.used == pytest.approx(0.7)


def test_a_trial_stopped_between_snapshots_has_been_paid_and_does_not_begin_again(
    queue_of: Any, clock: list[float], tmp_path: Path
) -> None:
    queue = queue_of(Budget(gpu_hours=1), "A")
    queue.suggest("1")
    queue.started("1")
    clock[0] += 3500
    queue.look()
    assert not (tmp_path / "stop").exists()
    clock[0] += 200
    queue.look()  # Tune has no room and asks for nothing: the budget is watched all the same
    assert (tmp_path / "stop").exists()
    queue.on_trial_complete("1")
    assert queue.used == pytest.approx(3700 / 3600)
    assert queue.suggest("2") == Searcher.FINISHED
    assert queue.stopped == {"A": "1 GPU-hours are spent"}


def test_a_failed_gan_does_not_come_back(queue_of: Any) -> None:
    queue = queue_of(Budget(gpu_hours=1), "A")
    queue.suggest("1")
    queue.close("A")
    queue.on_trial_complete("1")
    assert queue.suggest("2") == Searcher.FINISHED


def test_a_budget_needs_ray(tmp_path: Path) -> None:
    from tiny_sweep import tiny

    from ensgan.config import parse_spec
    from ensgan.launch import sweep as launch

    with pytest.raises(InputError, match="a budget needs Ray"):
        launch.run_sweep(
            parse_spec(tiny()), storage=tmp_path, address=None, budget=Budget(gpu_hours=1)
        )
