"""Runs the stages of a sweep in order, keeps the manifest, and hands results to the recorder."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ensgan.config import SweepSpec
from ensgan.errors import ConfigError, EnsganError
from ensgan.pipeline import privacy, stages
from ensgan.pipeline.choose import RULE
from ensgan.pipeline.cost import Measured, with_costs
from ensgan.pipeline.environment import environment
from ensgan.pipeline.events import Event, StageClock
from ensgan.pipeline.executor import Executor
from ensgan.pipeline.folder import SweepFolder
from ensgan.pipeline.members import MemberJob, MemberResult
from ensgan.pipeline.prepare import Inputs, Resolved, member_jobs, write_inputs
from ensgan.pipeline.results import SweepResult
from ensgan.search import select
from ensgan.types import Front, Selection

EARLY_SECTIONS = ("seed", "dataset", "train")
"""Sections of a spec whose change would leave trained members behind."""


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
        self.manifest = _opened(folder, resolved)
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
        with self.clock.stage("train"):
            members, failed = self._train(jobs)
        spec = self.spec
        with self.clock.stage("score", is_work=True):
            scores = stages.score(
                self.folder, spec, inputs, members, self._progress("score"), self.executor
            )
        with self.clock.stage("search", is_work=True):
            front, trials = stages.find_front(self.folder, spec, scores, self._progress("search"))
            front_path = self.folder.file(
                "search", f"{trials.stem.replace('trials', 'front')}.json"
            )
        selected = self._select(inputs, members, front)
        self.save(
            front=str(front_path),
            trials=str(trials),
            scores=str(stages.scores_path(self.folder, spec, inputs, members)),
            selected={"rule": selected.rule, "reason": selected.reason, **selected.point.to_json()},
        )
        with self.clock.stage("evaluate"):
            table = self._prove(inputs, members, stages.strategies(spec, scores, front, selected))
        with self.clock.stage("hand over", is_work=True):
            found = privacy.measure(
                self.folder, self.resolved, inputs, members, selected.point.members
            )
            artifact = stages.hand_over(
                self.folder,
                self.resolved,
                inputs,
                members,
                selected,
                table,
                privacy.summary(found),
            )
        self.save(
            ensemble=str(artifact),
            privacy=str(found),
            failed=dict(failed),
            stages=self.clock.summary(),
            status="failed" if failed else "finished",
            finished=time.time(),
        )
        with self.clock.stage("record"):
            run_id = self.recorder.close()
        seconds = self.clock.summary()
        return SweepResult(
            run_id,
            self.folder.path,
            members,
            scores,
            front,
            selected,
            table,
            artifact,
            seconds,
            failed,
        )

    def _train(self, jobs: list[MemberJob]) -> tuple[tuple[MemberResult, ...], Mapping[str, str]]:
        """Run the jobs; members in pool order, and the GANs that failed."""
        found: dict[str, MemberResult] = {}
        records: dict[str, Any] = {}

        def on_member(result: MemberResult) -> None:
            found[result.name] = result
            self.clock.work.extend(result.work)
            records[result.name] = result.to_json()
            self.on_event(
                Event(
                    "member",
                    {
                        "member": result.name,
                        "intra_d": round(result.intra_d, 4),
                        "density": round(result.density, 4),
                        "coverage": round(result.coverage, 4),
                        "health": list(result.health),
                        "done": len(found),
                        "of": sum(job.settings.snapshots for job in jobs),
                    },
                )
            )
            self.save(members=dict(records))

        beats: dict[str, Mapping[str, Any]] = {}
        losses: dict[str, dict[str, int]] = self.manifest["losses"]

        def on_event(event: Event) -> None:
            if event.kind == "progress" and "gan" in event.fields:
                beats[event.fields["gan"]] = event.fields
            elif event.kind == "lost":
                counts = losses.setdefault(event.fields["gan"], {"node": 0, "process": 0})
                counts[event.fields["kind"]] += 1
                self.save(losses=losses)
            elif event.kind == "failed":
                lost = {**self.manifest["failed"], event.fields["gan"]: event.fields["error"]}
                self.save(failed=lost)
            self.on_event(event)

        failed = self.executor.grow(jobs, on_member=on_member, on_event=on_event)
        self._learn(jobs, beats)
        members = tuple(found[name] for job in jobs for name in job.names if name in found)
        if len(members) < 2:
            raise EnsganError(
                f"only {len(members)} members were trained, an ensemble needs 2; "
                + "; ".join(f"{gan}: {reason}" for gan, reason in failed.items())
            )
        return members, failed

    def _learn(self, jobs: list[MemberJob], beats: Mapping[str, Mapping[str, Any]]) -> None:
        """Remember what the trainings took, for the next sweep's queue and shares."""
        for job in jobs:
            beat = beats.get(job.name, {})
            rate = beat.get("steps_per_second")
            self.measured.learn(
                job,
                self.resolved.dataset.shape,
                seconds_per_step=1 / rate if rate else None,
                memory_bytes=beat.get("gpu_memory_bytes"),
            )

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

    def _progress(self, stage: str) -> stages.OnProgress:
        return lambda done, total: self.on_event(
            Event("progress", {"stage": stage, "done": done, "of": total})
        )


def _opened(folder: SweepFolder, resolved: Resolved) -> dict[str, Any]:
    """The manifest of a new or resumed sweep.

    Raises:
        ConfigError: the folder's sweep trained on another spec.
    """
    spec = resolved.spec.model_dump(mode="json")
    manifest = folder.read()
    before = manifest.get("spec")
    if before is not None and before != spec:
        changes = differences(before, spec)
        early = [line for line in changes if line.split(".")[0].split(":")[0] in EARLY_SECTIONS]
        if early:
            raise ConfigError(
                f"{folder.path} holds sweep '{spec['name']}' with another spec",
                [*early, "give this one another name (--set name=...) or start over with --fresh"],
            )
        # A later stage changed: a new run, on the members already trained.
        manifest = {"schema": manifest["schema"], "members": manifest.get("members", {})}
    manifest.update(
        spec=spec,
        status="running",
        members=manifest.get("members", {}),
        failed={},
        losses=manifest.get("losses", {}),
        gans=[row.name for row in resolved.gans],
        steps={
            row.name: settings.steps
            for row, settings in zip(resolved.gans, resolved.settings, strict=True)
        },
        planned=sum(settings.snapshots for settings in resolved.settings),
        started=manifest.get("started", time.time()),
        dataset={
            "name": resolved.dataset.name,
            "key": resolved.dataset.key,
            "source": resolved.dataset.source,
            "classes": list(resolved.dataset.class_names),
            "images": {name: len(split) for name, split in resolved.dataset.splits().items()},
        },
        versions=environment(),
    )
    return manifest


def differences(before: Any, after: Any, path: str = "") -> list[str]:
    """Leaves at which two trees differ, one line each: ``a.b: old → new``."""
    if isinstance(before, dict) and isinstance(after, dict):
        lines = []
        for key in sorted({*before, *after}):
            lines += differences(
                before.get(key), after.get(key), f"{path}.{key}" if path else str(key)
            )
        return lines
    return [] if before == after else [f"{path}: {before!r} → {after!r}"]


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
