"""Draws that depend on results: ``train.vary.search`` trains a sweep's configurations by rounds.

The first round is quasi-random. Then, separately for each GAN, an Optuna sampler is given the worth
of every configuration and the operations of its training, and draws the next round. A configuration
is worth its best Intra-d, or what the pool's front would lose without it.

Rounds depend only on the spec and on results, never on how many trials run at once, and their
values are in the manifest before they train. So a resumed sweep draws and trains what an
uninterrupted one would.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ensgan.config.vary import OBJECTIVES, searched
from ensgan.errors import ConfigError, InputError
from ensgan.search import search
from ensgan.sweep import resolving
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.inputs import Inputs
from ensgan.sweep.member_job import MemberJob, purpose_seed
from ensgan.sweep.opening import OpenManifest, changes_of, earlier_pool
from ensgan.sweep.planning.cost import check_disk
from ensgan.sweep.planning.sweep_file import known_names, with_addition
from ensgan.sweep.planning.variations import (
    Configuration,
    Values,
    configurations,
    is_whole,
    settled,
)
from ensgan.sweep.records import Addition, MemberResult
from ensgan.sweep.search_stage import score, tables_of
from ensgan.sweep.training_stage import PoolInProgress, member_jobs
from ensgan.train.cost import step_work
from ensgan.types import gan_of, row_of

if TYPE_CHECKING:
    from ensgan.sweep.live.requests import Requests
    from ensgan.train import TrainSettings
    from ensgan.zoo import GANSpec


TRIALS = 1_000
"""Evaluations of each search for a front without one configuration."""
FAILED = 0.0
"""Worth of a failed training: the lowest value of both objectives."""


def worths(
    objective: str, inputs: Inputs, members: Sequence[MemberResult], failed: Collection[str]
) -> dict[str, float]:
    """Worth by configuration, larger is better; those still without members are left out.

    Args:
        objective: ``intra-d``, the best of its members, or ``hypervolume``, what the front of the
            pool so far loses without it.
        inputs: of the sweep.
        members: of the pool so far, in its order.
        failed: configurations that failed; members that they made before count all the same.
    """
    worth_of = dict.fromkeys(failed, FAILED)
    if objective == "hypervolume":
        return {**worth_of, **_contributions(inputs, members)}
    best: dict[str, float] = {}
    for member in members:
        gan = gan_of(member.name)
        best[gan] = max(member.intra_d, best.get(gan, -math.inf))
    return {**worth_of, **best}


def _contributions(inputs: Inputs, members: Sequence[MemberResult]) -> Mapping[str, float]:
    """Hypervolume of the pool's front less that of the front without each configuration."""
    gans: dict[str, list[str]] = {}
    for member in members:
        gans.setdefault(gan_of(member.name), []).append(member.name)
    if len(members) < 2:
        return dict.fromkeys(gans, FAILED)
    scores, _ = score(inputs, members, lambda done, of: None)
    tables, settings = tables_of(inputs, scores, members), inputs.spec.search
    seed = purpose_seed(inputs.spec.seed, "worth")

    def volume(without: Sequence[str]) -> float:
        left = len(members) - len(without)
        if left < max(2, settings.min_size):  # no ensemble can be made of them
            return 0.0
        most = None if settings.max_size is None else min(settings.max_size, left)
        return search(
            scores,
            trials=TRIALS,
            seed=seed,
            objectives=tables,
            min_size=settings.min_size,
            max_size=most,
            exclude=without,
        ).hypervolume

    whole = volume(())
    return {gan: max(0.0, whole - volume(names)) for gan, names in gans.items()}


@dataclass
class Rounds:
    """The rounds of a search, one after another.

    Attributes:
        resolved: with all configurations drawn so far.
    """

    resolved: resolving.Resolved
    _operations: dict[Any, float] = field(default_factory=dict)

    @property
    def objective(self) -> str:
        """What a configuration's worth is measured by."""
        return str((self._vary or {}).get("objective", OBJECTIVES[0]))

    def to_come(self) -> int:
        """Configurations still to be drawn, at most."""
        if self._vary is None:
            return 0
        sample = self._vary["sample"]
        return sum(max(0, sample - len(names)) for names in self._by_gan().values())

    def next(self, best: Mapping[str, float]) -> frozenset[str]:
        """Draw the next round; its names, none where there is no other.

        A round of which nothing was trained, as when a budget is spent, is the last.

        Args:
            best: what configurations have been worth, see :func:`worths`.
        """
        if self._vary is None:
            return frozenset()
        sample, by_gan = self._vary["sample"], self._by_gan()
        size = resolving.round_size(sample)
        # The newest round of every GAN; a budget or additions may have cut it short.
        last = {n for names in by_gan.values() for n in names[(len(names) - 1) // size * size :]}
        if last.isdisjoint(best):  # nothing was learnt from it: another round would be blind
            return frozenset()
        drawn = {
            gan: self._asked(
                self._vary, gan, [names[i : i + size] for i in range(0, len(names), size)], best
            )
            for gan, names in by_gan.items()
            if len(names) < sample
        }
        before = self.resolved.variations
        values: dict[str, Values] = {}
        for gan, names in by_gan.items():
            values |= {name: before[name] for name in names} | drawn.get(gan, {})
        self.resolved = resolving.with_configurations(self.resolved, values)
        return frozenset(name for found in drawn.values() for name in found)

    @property
    def _vary(self) -> Mapping[str, Any] | None:
        return searched(self.resolved.spec.train.vary)

    def _by_gan(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        for name in self.resolved.variations:
            names.setdefault(row_of(name), []).append(name)
        return names

    def _asked(
        self,
        vary: Mapping[str, Any],
        gan: str,
        rounds: Sequence[Sequence[str]],
        best: Mapping[str, float],
    ) -> dict[str, Values]:
        """The next round of one GAN: values by configuration."""
        from ensgan.search.optuna import Told, ask  # late: it takes seconds to import

        spec, known = self.resolved.spec, self.resolved.variations
        example = known[rounds[0][0]]
        drawn = {key: of for key, of in vary["from"].items() if key in example}
        if not drawn:
            return {}
        accepted: dict[str, Values] = {}

        def accept(values: Mapping[str, Any]) -> bool:
            # Settling rounds values, so two different draws may become one configuration.
            drawn_one = self._possible(gan, settled(values, drawn, spec.train.snapshots))
            if drawn_one is None or drawn_one.name in known or drawn_one.name in accepted:
                return False
            accepted[drawn_one.name] = drawn_one.values
            return True

        # The sampler weighs worth against operations, so that it can prefer cheaper trainings.
        costs = self._costs([name for names in rounds for name in names])
        ask(
            [
                [Told(known[name], best.get(name), costs[name]) for name in names]
                for names in rounds
            ],
            drawn,
            [key for key in drawn if is_whole(key, example)],
            accept,
            sampler=vary["search"],
            seed=purpose_seed(spec.seed, "search", gan, str(len(rounds))) % 2**32,
            count=min(resolving.round_size(vary["sample"]), vary["sample"] - sum(map(len, rounds))),
        )
        return accepted

    def _possible(self, gan: str, values: Values) -> Configuration | None:
        """The configuration of values, None where they cannot be trained."""
        made, problems = configurations(self.resolved.spec, many=True, drawn={gan: values})
        problems += resolving.data_problems(made, self.resolved)
        return None if problems else made[0]

    def _costs(self, names: Sequence[str]) -> dict[str, float]:
        """Operations of whole trainings; 0 where all take the same, which needs no counting."""
        trainings = {
            each.name: each.work for each in self.resolved.configurations if each.name in names
        }
        if len(set(trainings.values())) == 1:
            return dict.fromkeys(names, 0.0)
        return {name: self._operations_of(*trainings[name]) for name in names}

    def _operations_of(self, row: GANSpec, settings: TrainSettings) -> float:
        one = row, replace(settings, steps=1, snapshots=1)
        # Kept, because every round asks again and a count takes a second.
        if one not in self._operations:
            dataset = self.resolved.dataset
            work = step_work(row, dataset.shape, dataset.num_classes, settings)
            self._operations[one] = sum(work.flops)
        return self._operations[one] * settings.steps


def train_rounds(
    resolved: resolving.Resolved,
    inputs: Inputs,
    pool: PoolInProgress,
    requests: Requests | None = None,
) -> resolving.Resolved:
    """Train a sweep's configurations, those of a search round by round.

    Args:
        resolved: the sweep, of a search with what is drawn so far.
        inputs: of the jobs.
        pool: trains them, keeps their members, and has the manifest that draws are written to.
        requests: see :meth:`PoolInProgress.train`.

    Returns:
        The sweep with all that was drawn.

    Raises:
        SweepStoppedError: somebody asked for that.
    """
    rounds = Rounds(resolved)
    if rounds.to_come():  # before training: a resumed sweep must find the draws it trained
        pool.manifest.save(**_drawn_record(rounds))
    names = frozenset(row.name for row in resolved.gans)

    def take_in(addition: Addition) -> list[MemberJob]:
        before = {row.name for row in rounds.resolved.gans}
        rounds.resolved = _grown(rounds, inputs.folder, pool.manifest, addition)
        jobs = member_jobs(rounds.resolved, inputs)
        missing = pool.missing(jobs)
        new = [job for job in missing if job.name not in before]
        pool.trained += new
        return new

    if requests is not None:
        requests.take_in = take_in
    while names:
        jobs = [job for job in member_jobs(rounds.resolved, inputs) if job.name in names]
        pool.train(jobs, requests)
        if not rounds.to_come():
            break
        known = [pool.members[name] for name in rounds.resolved.names if name in pool.members]
        names = rounds.next(worths(rounds.objective, inputs, known, pool.manifest.value.failed))
        if names:
            pool.manifest.save(**_drawn_record(rounds))
    return rounds.resolved


def _grown(
    rounds: Rounds, folder: SweepFolder, manifest: OpenManifest, addition: Addition
) -> resolving.Resolved:
    """The sweep with what is added while it is trained; the manifest says so from here on.

    Raises:
        InputError: it cannot be added, in one sentence.
    """
    before = manifest.value
    try:
        spec = with_addition(rounds.resolved.spec, addition, known_names())
        if spec.train == rounds.resolved.spec.train:
            raise InputError("nothing to add: a request names a GAN or a variation")
        resolved = resolving.drawn_so_far(resolving.resolve(spec, rounds.resolved.dataset), folder)
        # Compared like a changed file that is run again, and refused for the same reasons.
        changes = changes_of(folder, before, resolved)
        changes.require(folder, retrain=False)
    except ConfigError as error:
        raise InputError("; ".join(error.problems)) from error
    if changes.removed:
        raise InputError(f"{addition} would take {', '.join(changes.removed)} away")
    check_disk(resolved, folder.path)
    manifest.save(
        spec=spec.model_dump(mode="json"),
        earlier=earlier_pool(folder, before, changes),
        additions=(*before.additions, addition),
        **_drawn_record(Rounds(resolved)),
    )
    return resolved


def _drawn_record(rounds: Rounds) -> dict[str, Any]:
    """What the manifest holds of the configurations drawn so far."""
    resolved = rounds.resolved
    to_come = rounds.to_come() * resolved.spec.train.snapshots
    return {
        **resolved.record(),
        "planned": to_come + len(resolved.names),
    }
