"""Runs the stages of a sweep in order and hands results to the recorder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Protocol

from ensgan.downstream import DownstreamTable
from ensgan.errors import InputError, SweepStoppedError
from ensgan.search import cautions, member_intra_d, select
from ensgan.sweep.classifier_job import RULE, Classifiers, Trained, classifier_settings
from ensgan.sweep.events import Event, StageClock, SweepResult
from ensgan.sweep.executor import Executor
from ensgan.sweep.external_members import bring_inputs, bring_members, make_members
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.hand_over_stage import hand_over, measure_memorisation, save_table
from ensgan.sweep.inputs import Inputs, choose_sampling, generator_files, write_inputs
from ensgan.sweep.live.requests import Outcome, Request, RequestFolder, Requests
from ensgan.sweep.live.status import ProgressFile
from ensgan.sweep.manifest import SelectedRecord
from ensgan.sweep.opening import open_manifest
from ensgan.sweep.planning.measured import Measured, stage_work
from ensgan.sweep.planning.rounds import train_rounds
from ensgan.sweep.records import MemberResult
from ensgan.sweep.resolving import Resolved
from ensgan.sweep.search_stage import find_front, score
from ensgan.sweep.training_stage import PoolInProgress
from ensgan.sweep.validated import RULE as VALIDATED
from ensgan.sweep.validated import LabelCheck, Shortlisted, check_labels, choose, make_judge
from ensgan.types import Front, PoolScores, Selection


class Recorder(Protocol):
    """Sends the manifest's news to the tracking store when it is notified."""

    def poke(self) -> None:
        """Notify of news in the manifest; returns at once."""
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


class RunningSweep:
    """A sweep, or what is left of it, in a folder whose lock the caller holds.

    Args:
        resolved: what to run.
        folder: keeps the results.
        open_executor: makes what jobs run on; called at most once, when a job has to run.
        recorder: shows the results.
        clock: times the stages and passes events on.
        retrain: GANs may train again from their start.

    Raises:
        ConfigError: finished members were made with other settings, or GANs would train again.
    """

    def __init__(
        self,
        resolved: Resolved,
        folder: SweepFolder,
        open_executor: Callable[[], Executor],
        recorder: Recorder,
        clock: StageClock,
        *,
        retrain: bool = False,
    ) -> None:
        self.resolved = resolved
        self.spec = resolved.spec
        self.folder = folder
        self.recorder = recorder
        self.clock = clock
        self.manifest = open_manifest(folder, resolved, recorder.poke, retrain=retrain)
        # A sweep with nothing left to do must not change its folder.
        self._show = ProgressFile(folder, clock.on_event, lambda: self.manifest.has_begun)
        clock.on_event = self.on_event
        self.requests = Requests(RequestFolder(folder.path))
        self._session = ExitStack()
        self._stage, self._is_training, self._is_ended = "", False, False
        self._open_executor = open_executor
        self._executor: Executor | None = None

    def executor(self) -> Executor:
        """The executor; opened for the first job that must run, since that can take seconds."""
        if self._executor is None:
            self.manifest.begin()
            self._take_requests()
            self._executor = self._open_executor()
            self._executor.tell = self.on_event
            # Executor and store open at the same time; a wrong address must show before real work.
            self.recorder.wait_opened()
        return self._executor

    def run(self) -> SweepResult:
        """Run all stages; where nothing is left to do, nothing is written.

        Raises:
            InputError: nothing could be recorded where the spec says.
            EnsganError: too few members could be trained.
            SweepStoppedError: a request ended the sweep.
        """
        with self._session:
            self._take_requests()
            return self._run()

    def _take_requests(self) -> None:
        """Accept steering requests once there is work to do; a finished folder stays untouched."""
        if self.manifest.has_begun and not self.requests.is_taking:
            self._session.enter_context(self.requests.taken())

    def _run(self) -> SweepResult:
        with self.clock.stage("prepare", is_work=True):
            bring_inputs(self.spec, self.folder)
            inputs = write_inputs(self.resolved, self.folder, self.executor)
        members = self._pool(inputs)
        scores, front = self._search(inputs, members)
        classifiers = self._classifiers(inputs, members)
        selected, labels = self._select(classifiers, Shortlisted(inputs, scores, front, members))
        with self.clock.stage("evaluate"):
            table = self._evaluate(classifiers, scores, front, selected)
            self.manifest.save(downstream=save_table(inputs, table))
        of_point = cautions(selected.point, member_intra_d(scores))
        alarms = (*labels.cautions, *of_point, *table.cautions)
        with self.clock.stage("hand over", is_work=True):
            by_name = {member.name: member for member in members}
            chosen = [by_name[name] for name in selected.point.members]
            privacy = measure_memorisation(self.resolved, inputs, chosen)
            before, made = self.manifest.value.earlier, (table, privacy, alarms)
            artifact = hand_over(self.resolved, inputs, chosen, selected, *made, before)
        self.manifest.save(ensemble=artifact, privacy=privacy)
        if not (self.manifest.value.stages or self.manifest.value.earlier):  # whole stages
            work = stage_work(self.spec, len(members), len(self.resolved.dataset.train))
            Measured.beside(self.folder.path).learn_stages(self.clock.seconds, work)
        self.manifest.finish(self.clock.summary())
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
            seconds=self.manifest.value.stages,
            failed=self.manifest.value.failed,
            cautions=alarms,
        )

    def _pool(self, inputs: Inputs) -> tuple[MemberResult, ...]:
        """Members in pool order, those from elsewhere last."""
        pool = PoolInProgress(self.executor, self.clock, self.manifest, self.resolved)
        if self.spec.members:  # first, so that a mistake in them shows before all the training
            with self.clock.stage("members"):
                known = self.manifest.value.members
                for member in bring_members(self.resolved, inputs, known):
                    pool.add(member)
                make_members(self.resolved, inputs, known, self.executor, pool.add)
        with self.clock.stage("train"):
            self._is_training = True
            drawn = train_rounds(self.resolved, inputs, pool, self.requests)
            self.resolved, self._is_training = drawn, False
        return pool.in_order(self.resolved.names)

    def _search(
        self, inputs: Inputs, members: tuple[MemberResult, ...]
    ) -> tuple[PoolScores, Front]:
        """Score the pool and find its front."""
        with self.clock.stage("score", is_work=True):
            known, tell = self.manifest.value.earlier, self._progress("score")
            scores, path = score(inputs, members, tell, self.executor, known)
        with self.clock.stage("search", is_work=True):
            front, front_path, trials = find_front(
                inputs, scores, members, self._progress("search")
            )
        self.manifest.save(front=front_path, trials=trials, scores=path)
        return scores, front

    def _classifiers(self, inputs: Inputs, members: Sequence[MemberResult]) -> Classifiers:
        """The classifiers of the pool."""
        asked, dataset = self.spec.evaluate, self.resolved.dataset
        settings = classifier_settings(asked)
        rows = {row.name: row for row in self.resolved.gans}
        sampling = choose_sampling(
            asked.sampling,
            members,
            generator_files(members, rows, dataset),
            bank=self.resolved.count,
            images=asked.n_times * settings.images(len(dataset.train)),
        )
        return Classifiers(
            dataset=inputs.dataset,
            members={member.name: member for member in members},
            settings=settings,
            seed=self.spec.seed,
            folder=self.folder.path / "evaluate",
            executor=self.executor,
            on_done=self._on_classifier,
            sampling=sampling,
        )

    def _select(self, classifiers: Classifiers, pool: Shortlisted) -> tuple[Selection, LabelCheck]:
        """G*, and what the members' labels mean for it."""
        settings, validation = self.spec.select, None
        # With the rule ``downstream`` the executor's processes report their own working time.
        with self.clock.stage("select", is_work=settings.rule != RULE):
            judge = make_judge(pool.inputs, pool.members)
            labels = check_labels(judge, pool.inputs, settings.rule)
            self.manifest.save(labels=labels.record)
            if settings.rule == VALIDATED:
                pool = replace(pool, left_out=labels.left_out)
                selected, validation = choose(pool, judge, self._progress("select"))
            elif settings.rule == RULE:
                selected = classifiers.choose(pool.front, settings.points, settings.repeats)
            else:
                selected = select(pool.front, settings.rule)
        self.manifest.save(selected=SelectedRecord.of(selected), validation=validation)
        return selected, labels

    def _evaluate(
        self, classifiers: Classifiers, scores: PoolScores, front: Front, selected: Selection
    ) -> DownstreamTable:
        """The downstream table."""
        asked = self.spec.evaluate
        strategies = classifiers.strategies(
            asked.strategies, scores, front, selected, weights=asked.weights, n_times=asked.n_times
        )
        if not strategies:  # data of one class have nothing to classify
            return DownstreamTable(None, (), ())
        return classifiers.compare(classifiers.jobs(strategies, asked.repeats))

    def _on_classifier(self, trained: Trained, done: int, total: int) -> None:
        """Pass on the result of one classifier, and count its time if it was trained now."""
        if trained.work is not None:
            self.clock.work.append(trained.work)
        self._progress(self._stage)(done, total)
        result = trained.result
        fields = {
            "strategy": result.strategy.name,
            "repeat": result.repeat,
            "metrics": dict(result.metrics),
        }
        self.on_event(Event("strategy", fields))

    def _progress(self, stage: str) -> Callable[[int, int], None]:
        return lambda done, total: self.on_event(
            Event("progress", {"stage": stage, "done": done, "of": total})
        )

    def on_event(self, event: Event) -> None:
        """Pass an event on, and handle steering requests.

        During training the executor handles them.

        Raises:
            SweepStoppedError: a request ended the sweep.
        """
        if event.kind == "stage" and event.fields["state"] == "start":
            self._stage = event.fields["stage"]
        self._show(event)
        self._take_requests()
        if self.requests.is_taking and not self._is_training:
            for asked in self.requests.look(self._outside_training):
                self._show(asked)
            if self._is_ended:
                raise SweepStoppedError("stopped by `ensgan stop`")

    def _outside_training(self, request: Request) -> Outcome:
        if request.verb == "stop" and request.gan is None:
            self._is_ended = True
            return Outcome("stopping now; the same `ensgan sweep` command goes on from here")
        if request.verb == "add":
            raise InputError(
                f"training is over ({self._stage}): write it into the sweep's file and run that "
                "again when this has ended; only what is new is computed then"
            )
        raise InputError(
            f"no GAN is being trained now ({self._stage}): only `ensgan stop` without a GAN can be "
            "done; when the sweep has ended, the same `ensgan sweep` command trains what is missing"
        )
