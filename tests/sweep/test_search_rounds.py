"""``train.vary.search``: rounds that are drawn by what came of earlier ones, and resumed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from local_sweep import Home
from tiny_sweep import files_of, tiny

from ensgan.config import parse_spec
from ensgan.errors import ConfigError, InputError
from ensgan.evaluation.finished_sweep import open_sweep
from ensgan.launch.sweep import train_one
from ensgan.search import optuna, search
from ensgan.search.optuna import Told, ask
from ensgan.sweep.events import Event, OnEvent, StageClock, SweepResult
from ensgan.sweep.executor import Executor
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.inputs import write_inputs
from ensgan.sweep.live.requests import Requests
from ensgan.sweep.member_job import MemberJob
from ensgan.sweep.opening import OpenManifest, open_manifest
from ensgan.sweep.planning.plan import look_ahead
from ensgan.sweep.planning.rounds import train_rounds, worths
from ensgan.sweep.records import MemberResult
from ensgan.sweep.resolving import Resolved, drawn_so_far, resolve
from ensgan.sweep.training_stage import PoolInProgress
from ensgan.types import gan_of, row_of

VARY: dict[str, Any] = {
    "sample": 10,
    "search": "tpe",
    "from": {"learning_rate": {"log": [0.2, 5.0]}, "seed": [0, 1]},
}
"""Rounds of two."""


def intra_d(job: MemberJob) -> float:
    """Best at a learning rate of 3."""
    return math.exp(-abs(math.log(job.settings.learning_rate / 3)))


class Toy:
    """An executor whose trainings give what a function says, at once.

    Attributes:
        asked: names of the jobs of every call.
    """

    slots = 1

    def __init__(self, worth: Callable[[MemberJob], float | None], most: int = 10**6) -> None:
        self.worth, self.most = worth, most
        self.asked: list[list[str]] = []
        self.on_grow: Callable[[], None] = lambda: None

    def grow(
        self,
        jobs: Sequence[MemberJob],
        *,
        on_member: Callable[[MemberResult], None],
        on_event: OnEvent,
        requests: Requests | None = None,
    ) -> Mapping[str, str]:
        self.asked.append([job.name for job in jobs])
        self.on_grow()
        failed = {}
        for job in jobs:
            value = self.worth(job)
            if value is None:
                failed[job.name] = "diverged"
                continue
            if math.isnan(value):  # left out
                continue
            if self.most == 0:
                raise KeyboardInterrupt
            self.most -= 1
            for name in job.names:
                on_member(made(job, name, value))
        return failed

    def map(self, *_: Any, **__: Any) -> list[Any]:
        raise NotImplementedError

    mapper = map


def made(job: MemberJob, name: str, value: float) -> MemberResult:
    path = job.folder / name
    return MemberResult(
        name=name, weights=path, sha256="0", samples=path, features=path, density=value,
        coverage=value, intra_d=value, metrics={}, health=(), seconds={}, work=(),
    )  # fmt: skip


class Scene:
    """The training stage of a search in a folder."""

    def __init__(self, path: Path, gans: Sequence[str] = ("SNGAN",), **vary: Any) -> None:
        self.folder = SweepFolder(path / "sweeps" / "tiny")
        tree = tiny(train={"gans": list(gans), "vary": {**VARY, **vary}})
        self.all = resolve(parse_spec(tree))

    def open(self) -> tuple[Resolved, OpenManifest]:
        resolved = drawn_so_far(self.all, self.folder)
        return resolved, open_manifest(self.folder, resolved, lambda: None)

    def train(self, toy: Toy) -> Resolved:
        resolved, manifest = self.open()
        manifest.begin()
        # Toy members have no files: those of earlier sessions are taken as they are.
        known = manifest.value.members

        class Pool(PoolInProgress):
            def train(self, jobs: Sequence[MemberJob], *arguments: Any, **how: Any) -> None:
                for job in jobs:
                    self.members.update({n: known[n] for n in job.names if n in known})
                left = [job for job in jobs if job.names[-1] not in self.members]
                if left:
                    super().train(left, *arguments, **how)

        executor: Callable[[], Executor] = lambda: toy  # type: ignore[assignment, return-value]  # noqa: E731
        pool = Pool(executor, StageClock(), manifest, resolved)
        return train_rounds(resolved, write_inputs(resolved, self.folder), pool)


def rates(resolved: Resolved) -> list[float]:
    return [each.settings.learning_rate for each in resolved.configurations]


def test_rounds_follow_the_results_and_are_written_before_they_train(tmp_path: Path) -> None:
    both = {**VARY["from"], "d_updates": [1, 2], "ADA.target": [0.4, 0.8]}
    scene = Scene(tmp_path, ["SNGAN", "StyleGAN2-ADA"], **{"from": both})
    toy = Toy(intra_d)

    def written() -> None:
        manifest = scene.folder.read()
        assert set(toy.asked[-1]) <= set(manifest.gans)
        assert manifest.planned == 2 * 10 * 2  # GANs, configurations, snapshots

    toy.on_grow = written
    resolved = scene.train(toy)
    assert [len(names) for names in toy.asked] == [4] * 5  # two of each GAN
    assert toy.asked[0] == [row.name for row in drawn_so_far(scene.all, _nowhere(tmp_path)).gans]
    names = [row.name for row in resolved.gans]
    assert sorted(names) == sorted(name for asked in toy.asked for name in asked)
    assert len(set(names)) == 20
    assert [row_of(name) for name in names] == ["SNGAN"] * 10 + ["StyleGAN2-ADA"] * 10
    assert all(("ADA.target" in v) == n.startswith("Style") for n, v in resolved.variations.items())
    assert scene.folder.read().gans == tuple(names)
    # Three quarters of the range of rates are below 2.2 or so; the optimum is at 3.
    later = [rate for name, rate in zip(names, rates(resolved), strict=True)
             if name not in toy.asked[0]]  # fmt: skip
    good = sum(abs(math.log(rate / 3)) < 0.5 for rate in later) / len(later)
    at_random = [abs(math.log(rate / 3)) < 0.5 for rate in rates(scene.all)]
    assert good > sum(at_random) / len(at_random)


def _nowhere(path: Path) -> SweepFolder:
    return SweepFolder(path / "nowhere")


def test_other_results_give_other_draws(tmp_path: Path) -> None:
    first = Scene(tmp_path / "a").train(Toy(intra_d))
    again = Scene(tmp_path / "b").train(Toy(intra_d))
    other = Scene(tmp_path / "c").train(Toy(lambda job: 1 / job.settings.learning_rate))
    assert rates(first) == rates(again)
    assert rates(first)[:2] == rates(other)[:2]
    assert rates(first)[2:] != rates(other)[2:]


@pytest.mark.parametrize("most", [1, 2, 5])
def test_who_is_interrupted_draws_and_trains_the_rest_and_no_more(
    tmp_path: Path, most: int
) -> None:
    whole, toy = Toy(intra_d), Toy(intra_d, most)
    expected = Scene(tmp_path / "whole").train(whole)
    scene = Scene(tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt):
        scene.train(toy)
    drawn = scene.folder.read().gans
    rest = Toy(intra_d)
    assert scene.train(rest).variations == expected.variations
    done = [name for asked in whole.asked for name in asked][:most]
    trained = [name for asked in rest.asked for name in asked]
    assert sorted([*done, *trained]) == sorted(row.name for row in expected.gans)
    assert set(drawn) <= {row.name for row in expected.gans}
    assert scene.train(nothing := Toy(intra_d)).variations == expected.variations
    assert nothing.asked == []


def test_failures_end_no_search_and_a_round_that_did_not_train_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, float | None] = {}

    def listening(rounds: Sequence[Sequence[Told]], *arguments: Any, **how: Any) -> int:
        told.update({str(each.values): each.worth for tried in rounds for each in tried})
        told["lowest"] = min(each.values["learning_rate"] for tried in rounds for each in tried)
        return ask(rounds, *arguments, **how)

    monkeypatch.setattr(optuna, "ask", listening)
    toy = Toy(lambda job: None if job.settings.learning_rate < 1 else intra_d(job))
    resolved = Scene(tmp_path / "some").train(toy)
    assert len(resolved.gans) == 10
    # They are told as the worst there is.
    assert told.pop("lowest") < 1  # type: ignore[operator]
    assert 0.0 in told.values() and None not in told.values()
    spent = Toy(intra_d)
    spent.worth = lambda job: intra_d(job) if len(spent.asked) < 3 else math.nan
    scene = Scene(tmp_path / "spent")
    scene.train(spent)
    assert len(spent.asked) == 3
    assert len(scene.train(Toy(intra_d)).gans) == 10  # once there is a budget again


def test_a_larger_sample_goes_on_and_the_plan_knows_what_was_drawn(tmp_path: Path) -> None:
    varied = {**VARY["from"], "Adam.betas": [[0.0, 0.9], [0.5, 0.999]]}
    scene = Scene(tmp_path, **{"from": varied})
    drawn = [row.name for row in scene.train(Toy(intra_d)).gans]
    more = Scene(tmp_path, sample=14, **{"from": varied})
    whole = drawn_so_far(more.all, more.folder, whole=True)
    assert [row.name for row in whole.gans][:10] == drawn
    assert len(whole.gans) == 14
    assert "would add 8 members" in look_ahead(whole, more.folder).sentences[0]
    toy = Toy(intra_d)
    assert [row.name for row in more.train(toy).gans][:10] == drawn
    assert sum(map(len, toy.asked)) == 4
    # With other ranges nothing that was drawn is of use.
    other = Scene(tmp_path, **{"from": {"learning_rate": [1.0, 2.0, 3.0]}, "sample": 3})
    assert [row.name for row in other.open()[0].gans] == [row.name for row in other.all.gans][:2]


def test_changed_trainings_of_drawn_configurations_stay_refused(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.train(Toy(intra_d))
    scene.all = resolve(parse_spec(tiny(train={"gans": ["SNGAN"], "vary": VARY, "batch": 4})))
    with pytest.raises(ConfigError, match="batch"):
        scene.open()


def test_a_configuration_is_worth_what_the_front_loses_without_it(
    home: Home, result: SweepResult
) -> None:
    spec = parse_spec(tiny())
    inputs = write_inputs(resolve(spec), SweepFolder(result.folder))
    own = worths("intra-d", inputs, result.members, ["BigGAN"])
    assert own["BigGAN"] == 0.0
    assert own["SNGAN"] == max(m.intra_d for m in result.members if m.name.startswith("SNGAN@"))
    lost = worths("hypervolume", inputs, result.members, ["BigGAN"])
    assert set(lost) == {"SNGAN", "ACGAN-Mod", "BigGAN"} and lost["BigGAN"] == 0.0
    for gan, value in lost.items():
        rest = [m.name for m in result.members if gan_of(m.name) != gan]
        front = search(result.scores.part(rest), objectives="capped")
        assert value == pytest.approx(max(0.0, result.front.hypervolume - front.hypervolume))


@pytest.mark.slow
def test_a_real_search_is_interrupted_resumed_and_read(tmp_path: Path) -> None:
    vary = {**VARY, "sample": 4, "search": "nsga2", "objective": "hypervolume"}
    spec = parse_spec(
        tiny(
            train={"gans": ["SNGAN", "StyleGAN2-ADA"], "steps": 2, "snapshots": 1, "vary": vary},
            evaluate={"strategies": []},
            select={"rule": "knee"},
        )
    )
    whole = Home(tmp_path / "whole")
    expected = [member.name for member in whole.run(spec).members]
    assert len(expected) == 8
    cut = Home(tmp_path / "cut")

    def fifth(event: Event) -> None:
        if event.kind == "member" and event.fields["done"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut.run(spec, on_event=fifth)
    folder = cut.path / "sweeps" / "tiny"
    before = files_of(folder, "members", "train")
    result = cut.run(spec)
    assert [member.name for member in result.members] == expected
    after = files_of(folder, "members", "train")
    finished = {name: when for name, when in before.items() if name.startswith("members/")}
    assert finished
    assert finished.items() <= after.items()
    assert {row.rpartition("@")[0] for row in expected} == set(open_sweep("tiny", cut.path).rows)
    name = expected[0].partition("@")[0]
    assert train_one(spec, name, storage=cut.path)[0].name == expected[0]
    with pytest.raises(InputError, match="unknown GAN"):
        train_one(spec, "SNGAN~lr77", storage=cut.path)
