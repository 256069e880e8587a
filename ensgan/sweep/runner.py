"""Runs the stages of a sweep in order and hands results to the recorder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ensgan.config import SweepSpec
from ensgan.downstream import DownstreamTable, Strategy
from ensgan.search import select
from ensgan.sweep import memorisation_stage, stages
from ensgan.sweep.classifier_job import RULE
from ensgan.sweep.events import Event, StageClock
from ensgan.sweep.executor import Executor
from ensgan.sweep.external_member_job import external_jobs
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.inputs import Inputs, Resolved, member_jobs, write_inputs
from ensgan.sweep.manifest import SelectedRecord
from ensgan.sweep.member_job import MemberJob
from ensgan.sweep.opening import open_manifest
from ensgan.sweep.planning.cost import Measured, with_costs
from ensgan.sweep.records import MemberResult
from ensgan.sweep.search_stage import find_front
from ensgan.sweep.training_stage import PoolInProgress
from ensgan.types import Front, PoolScores, Selection


class Recorder(Protocol):
    """Shows the manifest to the tracking store, whenever it hears that something is new."""

    def poke(self) -> None:
        """Something new is in the manifest; returns at once."""
        ...

    def wait_opened(self) -> None:
        """Wait a little for the store to be opened, so that a mistake in its address comes early.

        Raises:
            InputError: nothing could ever be recorded there.
        """
        ...

    def close(self) -> str | None:
        """Record what is left and stop; the parent's run ID, None when the store cannot be
        reached (nothing is lost: ``ensgan sync`` records it later)."""
        ...


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """The outcome of a sweep.

    Attributes:
        run_id: of the parent run in the store, None when recording failed (``ensgan sync``).
        folder: the sweep's folder.
        members: every member, in pool order.
        scores, front, selected, table: results of the stages.
        ensemble: folder of the selected ensemble's artifact.
        seconds: by stage, with ``orchestration`` and ``total``.
        failed: GANs that failed, with the reason.
    """

    run_id: str | None
    folder: Path
    members: tuple[MemberResult, ...]
    scores: PoolScores
    front: Front
    selected: Selection
    table: DownstreamTable
    ensemble: Path
    seconds: Mapping[str, float]
    failed: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """What the last event of ``ensgan sweep --json`` holds."""
        point = self.selected.point
        return {
            "run_id": self.run_id,
            "folder": str(self.folder),
            "members": len(self.members),
            "front": len(self.front),
            "distinct": self.front.distinct,
            "hypervolume": self.front.hypervolume,
            "selected": {
                **point.to_json(),
                "rule": self.selected.rule,
                "reason": self.selected.reason,
            },
            "downstream": self.table.to_json(),
            "ensemble": str(self.ensemble),
            "stages": dict(self.seconds),
            "failed": dict(self.failed),
        }


class _Sweep:
    """One running sweep."""

    def __init__(
        self,
        resolved: Resolved,
        folder: SweepFolder,
        open_executor: Callable[[], Executor],
        recorder: Recorder,
        clock: StageClock,
    ) -> None:
        self.resolved = resolved
        self.spec: SweepSpec = resolved.spec
        self.folder = folder
        self.recorder = recorder
        self.on_event = clock.on_event
        self.clock = clock
        self.measured = Measured(folder.path.parents[1] / "measured.json")
        self.manifest = open_manifest(folder, resolved, recorder.poke)
        self._open_executor = open_executor
        self._executor: Executor | None = None

    def executor(self) -> Executor:
        """Where jobs run; opened at the first that has to, since that can take seconds."""
        if self._executor is None:
            self.manifest.begin()
            self._executor = self._open_executor()
            # Both were being opened at once; from here on a mistake would cost real work.
            self.recorder.wait_opened()
        return self._executor

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
        members = self._pool(jobs, inputs)
        scores, front = self._search(inputs, members)
        selected = self._select(inputs, members, front)
        self.manifest.save(selected=SelectedRecord.of(selected))
        with self.clock.stage("evaluate"):
            chosen = stages.strategies(self.spec, scores, front, selected)
            table = self._evaluate(inputs, members, chosen)
        artifact = self._hand_over(inputs, members, selected, table)
        seconds = self.clock.summary()
        self.manifest.finish(seconds)
        with self.clock.stage("record"):
            run_id = self.recorder.close()
        return SweepResult(
            run_id=run_id,
            folder=self.folder.path,
            members=members,
            scores=scores,
            front=front,
            selected=selected,
            table=table,
            ensemble=artifact,
            seconds=self.clock.summary(),
            failed=self.manifest.value.failed,
        )

    def _pool(self, jobs: Sequence[MemberJob], inputs: Inputs) -> tuple[MemberResult, ...]:
        """Members in pool order, those from elsewhere last."""
        pool = PoolInProgress(self.executor, self.clock, self.manifest)
        external = external_jobs(self.resolved, inputs, self.folder)
        if external:  # first: a mistake there must not come after all the training
            with self.clock.stage("members"):
                pool.add_external(external)
        with self.clock.stage("train"):
            pool.train(jobs, self.resolved.dataset.shape, self.measured)
        names = [name for job in jobs for name in job.names]
        return pool.in_order([*names, *(job.member.name for job in external)])

    def _search(
        self, inputs: Inputs, members: tuple[MemberResult, ...]
    ) -> tuple[PoolScores, Front]:
        """Score the pool and find its front."""
        spec = self.spec
        with self.clock.stage("score", is_work=True):
            scores = stages.score(
                self.folder, spec, inputs, members, self._progress("score"), self.executor
            )
        with self.clock.stage("search", is_work=True):
            front, trials = find_front(
                self.folder, spec, scores, inputs, members, self._progress("search")
            )
        self.manifest.save(
            front=self.folder.file("search", f"{trials.stem.replace('trials', 'front')}.json"),
            trials=trials,
            scores=stages.scores_path(self.folder, spec, inputs, members),
        )
        return scores, front

    def _select(self, inputs: Inputs, members: tuple[MemberResult, ...], front: Front) -> Selection:
        """G*; the rule ``downstream`` trains classifiers first."""
        if self.spec.select.rule != RULE:
            return select(front, self.spec.select.rule)
        with self.clock.stage("select"):
            return stages.choose(
                self.folder, self.resolved, inputs, members, front, self.executor, self._classifier
            )

    def _classifier(self, value: dict[str, Any]) -> None:
        """Pass on the result of one classifier."""
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

    def _evaluate(
        self, inputs: Inputs, members: tuple[MemberResult, ...], chosen: Sequence[Strategy]
    ) -> DownstreamTable:
        """The downstream table."""
        table = stages.evaluate_strategies(
            self.folder, self.resolved, inputs, members, chosen, self.executor, self._classifier
        )
        self.manifest.save(downstream=stages.save_table(self.folder, table))
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
            privacy = memorisation_stage.measure(
                self.folder, self.resolved, inputs, members, chosen
            )
            artifact = stages.hand_over(
                self.folder,
                self.resolved,
                inputs,
                members,
                selected,
                table,
                memorisation_stage.summary(privacy),
            )
        self.manifest.save(ensemble=artifact, privacy=privacy)
        return artifact

    def _progress(self, stage: str) -> stages.OnProgress:
        return lambda done, total: self.on_event(
            Event("progress", {"stage": stage, "done": done, "of": total})
        )


def run(
    resolved: Resolved,
    folder: SweepFolder,
    *,
    open_executor: Callable[[], Executor],
    recorder: Recorder,
    clock: StageClock,
) -> SweepResult:
    """Run a sweep, or what is left of it; where nothing is left, nothing is written.

    The caller holds the folder's lock.

    Args:
        open_executor: makes what jobs run on; called at most once, when a job has to run.
        clock: times the stages and passes events on.

    Raises:
        ConfigError: the folder holds a sweep with other training settings.
        InputError: nothing could be recorded where the spec says.
        EnsganError: too few members could be trained.
    """
    return _Sweep(resolved, folder, open_executor, recorder, clock).run()
