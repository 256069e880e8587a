"""Runs the stages of a sweep in order, keeps the manifest, and hands results to the recorder."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ensgan.config import SweepSpec
from ensgan.downstream import DownstreamTable
from ensgan.search import select
from ensgan.sweep import memorisation_stage, stages
from ensgan.sweep.classifier_job import RULE
from ensgan.sweep.events import Event, StageClock
from ensgan.sweep.executor import Executor
from ensgan.sweep.external_member_job import outside_jobs
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.inputs import Inputs, Resolved, member_jobs, write_inputs
from ensgan.sweep.member_job import MemberJob, MemberResult
from ensgan.sweep.opening import opened_manifest
from ensgan.sweep.planning.cost import Measured, with_costs
from ensgan.sweep.result import SweepResult
from ensgan.sweep.search_stage import find_front
from ensgan.sweep.training_stage import GrowingPool
from ensgan.types import Front, PoolScores, Selection


class Recorder(Protocol):
    """Shows the manifest to the tracking store, whenever it is told that something is new."""

    def poke(self) -> None:
        """Something new is in the manifest; returns at once."""
        ...

    def close(self) -> str | None:
        """Record what is left and stop; the parent's run ID, None when the store cannot be
        reached (nothing is lost: ``ensgan sync`` records it later)."""
        ...


class _Sweep:
    """One running sweep: the manifest in memory and what writes to it."""

    def __init__(
        self,
        resolved: Resolved,
        folder: SweepFolder,
        executor: Executor,
        recorder: Recorder,
        clock: StageClock,
    ) -> None:
        self.resolved = resolved
        self.spec: SweepSpec = resolved.spec
        self.folder = folder
        self.executor = executor
        self.recorder = recorder
        self.on_event = clock.on_event
        self.clock = clock
        self.measured = Measured(folder.path.parents[1] / "measured.json")
        self.manifest = opened_manifest(folder, resolved)
        self.save()

    def save(self, **values: Any) -> None:
        """Put values into the manifest, write it, and tell the recorder."""
        self.manifest.update(values)
        self.folder.write(self.manifest)
        self.recorder.poke()

    def run(self) -> SweepResult:
        """All stages."""
        with self.clock.stage("prepare", is_work=True):
            inputs = write_inputs(self.resolved, self.folder)
            jobs = with_costs(
                member_jobs(self.resolved, inputs, self.folder),
                self.resolved.dataset.shape,
                self.measured,
                memory=self.spec.cluster.gpus_per_trial == "auto",
            )
        members, failed = self._pool(jobs, inputs)
        scores, front, found = self._search(inputs, members)
        selected = self._select(inputs, members, front)
        self.save(**found, selected=_shown(selected))
        with self.clock.stage("evaluate"):
            chosen = stages.strategies(self.spec, scores, front, selected)
            table = self._prove(inputs, members, chosen)
        artifact = self._hand_over(inputs, members, selected, table)
        self.save(
            failed=dict(failed),
            stages=self.clock.summary(),
            status="failed" if failed else "finished",
            finished=time.time(),
        )
        with self.clock.stage("record"):
            run_id = self.recorder.close()
        return SweepResult(
            run_id,
            self.folder.path,
            members,
            scores,
            front,
            selected,
            table,
            artifact,
            self.clock.summary(),
            failed,
        )

    def _pool(
        self, jobs: Sequence[MemberJob], inputs: Inputs
    ) -> tuple[tuple[MemberResult, ...], Mapping[str, str]]:
        """Members in pool order, those from elsewhere last; and the GANs that failed."""
        pool = GrowingPool(
            self.executor, self.clock, self.manifest["planned"], self.manifest, self.save
        )
        outside = outside_jobs(self.resolved, inputs, self.folder)
        if outside:  # first: a mistake there must not come after all the training
            with self.clock.stage("members"):
                pool.bring(outside)
        with self.clock.stage("train"):
            pool.train(jobs, self.resolved.dataset.shape, self.measured)
        names = [name for job in jobs for name in job.names]
        names += [job.member.name for job in outside]
        return pool.in_order(names), pool.failed

    def _search(
        self, inputs: Inputs, members: tuple[MemberResult, ...]
    ) -> tuple[PoolScores, Front, dict[str, str]]:
        """Score the pool and find its front; and where both are."""
        spec = self.spec
        with self.clock.stage("score", is_work=True):
            scores = stages.score(
                self.folder,
                spec,
                inputs,
                members,
                self._progress("score"),
                self.executor,
            )
        with self.clock.stage("search", is_work=True):
            front, trials = find_front(
                self.folder, spec, scores, inputs, members, self._progress("search")
            )
        front_name = f"{trials.stem.replace('trials', 'front')}.json"
        places = {
            "front": self.folder.file("search", front_name),
            "trials": trials,
            "scores": stages.scores_path(self.folder, spec, inputs, members),
        }
        return scores, front, {name: str(path) for name, path in places.items()}

    def _select(self, inputs: Inputs, members: tuple[MemberResult, ...], front: Front) -> Selection:
        """G*; the rule ``downstream`` trains classifiers first."""
        if self.spec.select.rule != RULE:
            return select(front, self.spec.select.rule)
        with self.clock.stage("select"):
            return stages.choose(
                self.folder, self.resolved, inputs, members, front, self.executor, self._classifier
            )

    def _classifier(self, value: dict[str, Any]) -> None:
        """Tell about one classifier."""
        if not value["cached"]:
            self.clock.work.extend((float(a), float(b)) for a, b in value["work"])
        result = value["result"]
        self.on_event(
            Event(
                "strategy",
                {
                    "strategy": result["strategy"]["name"],
                    "repeat": result["repeat"],
                    "metrics": result["metrics"],
                },
            )
        )

    def _prove(self, inputs: Inputs, members: tuple[MemberResult, ...], chosen: Any) -> Any:
        """The downstream table."""
        table = stages.prove(
            self.folder, self.resolved, inputs, members, chosen, self.executor, self._classifier
        )
        self.save(downstream=str(stages.save_table(self.folder, table)))
        return table

    def _hand_over(
        self,
        inputs: Inputs,
        members: tuple[MemberResult, ...],
        selected: Selection,
        table: DownstreamTable,
    ) -> Path:
        """The ensemble as an artifact, with what was measured of its privacy."""
        with self.clock.stage("hand over", is_work=True):
            chosen = selected.point.members
            found = memorisation_stage.measure(self.folder, self.resolved, inputs, members, chosen)
            artifact = stages.hand_over(
                self.folder,
                self.resolved,
                inputs,
                members,
                selected,
                table,
                memorisation_stage.summary(found),
            )
        self.save(ensemble=str(artifact), privacy=str(found))
        return artifact

    def _progress(self, stage: str) -> stages.OnProgress:
        return lambda done, total: self.on_event(
            Event("progress", {"stage": stage, "done": done, "of": total})
        )


def _shown(selected: Selection) -> dict[str, Any]:
    """G* as the manifest has it."""
    return {"rule": selected.rule, "reason": selected.reason, **selected.point.to_json()}


def run(
    resolved: Resolved,
    folder: SweepFolder,
    *,
    executor: Executor,
    recorder: Recorder,
    clock: StageClock,
) -> SweepResult:
    """Run a sweep, or what is left of it.

    The caller holds the folder's lock; ``clock`` times the stages and passes events on.

    Raises:
        ConfigError: the folder holds a sweep with other training settings.
        EnsganError: too few members could be trained.
    """
    return _Sweep(resolved, folder, executor, recorder, clock).run()


def sweep_folder(storage: Path, name: str) -> SweepFolder:
    """Where the sweep of this name lives."""
    return SweepFolder(storage / "sweeps" / name)
