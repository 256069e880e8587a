"""Budgets and ASHA end real trials on Ray, and what they left out is trained later."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_sweep import tiny

from ensgan.cluster.budget import Budget
from ensgan.cluster.executor import RayExecutor
from ensgan.cluster.session import ray_session
from ensgan.config import parse_spec
from ensgan.sweep.events import Event
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.inputs import write_inputs
from ensgan.sweep.resolving import resolve
from ensgan.sweep.training_stage import member_jobs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

GANS = ["SNGAN", "ACGAN-Mod"]


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    with ray_session(cpus=2):
        yield


class Training:
    """The training of a sweep, as often as a test calls it."""

    def __init__(self, folder: Path, **train: Any) -> None:
        self.folder = folder
        self.train = {"gans": GANS, **train}
        self.events: list[Event] = []

    def __call__(self, budget: Budget | None = None, **cluster: Any) -> dict[str, str]:
        """Hashes of the members that are there afterwards."""
        spec = parse_spec(tiny(train=self.train, cluster=cluster))
        resolved, sweep = resolve(spec), SweepFolder(self.folder)
        jobs = member_jobs(resolved, write_inputs(resolved, sweep))
        members: dict[str, str] = {}
        self.events.clear()
        failed = RayExecutor(spec.cluster, self.folder / "tune", budget).grow(
            jobs,
            on_member=lambda member: members.update({member.name: member.sha256}),
            on_event=self.events.append,
        )
        assert not failed
        return members

    def fields(self, kind: str) -> list[Any]:
        return [event.fields for event in self.events if event.kind == kind]


def test_a_budget_ends_a_training_which_goes_on_with_a_larger_one(
    tmp_path: Path, session: None
) -> None:
    settings = {"vary": {"seed": [0, 1]}, "steps": 600, "snapshots": 3}
    train = Training(tmp_path / "whole", **settings)
    whole = train(Budget(gpu_hours=10))
    assert len(whole) == 12 and "SNGAN~s1@600" in whole and not train.fields("stopped")
    (total,) = train.fields("budget")
    hours = 0.5 * total["hours"]

    train = Training(tmp_path / "part", **settings)
    part = train(Budget(gpu_hours=hours))
    assert 1 <= len(part) < 12 and part.items() <= whole.items()
    assert train.fields("stopped") and train.fields("budget")[0]["hours"] < 1.3 * hours

    again = train(Budget(gpu_hours=hours))
    assert part.items() <= again.items() and len(again) <= len(part) + 1
    assert train.fields("budget")[0]["hours"] < 1.6 * hours, "the hours before count"
    assert train() == whole and not train.fields("stopped")


def test_asha_stops_gans_and_without_it_they_go_on(tmp_path: Path, session: None) -> None:
    """One after the other, so that the better one is always there to be compared with."""
    train = Training(tmp_path, steps=60, snapshots=3)
    in_order = {"max_concurrent": 1, "priority": {"ACGAN-Mod": 1}}
    part = train(scheduler="asha", **in_order)
    (stopped,) = train.fields("stopped")
    assert stopped["gan"] == "SNGAN" and "ASHA" in stopped["reason"]
    assert len(part) == 3 + stopped["members"] < 6
    whole = train(scheduler="fifo")
    assert len(whole) == 6 and part.items() <= whole.items()
