"""The stages that score a sweep's pool and search its front."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ensgan import metrics
from ensgan.config import ScoreSpec, SearchSpec
from ensgan.ensemble.weights import read_tensor_infos
from ensgan.errors import DataError, InputError
from ensgan.files import content_key, is_whole, map_array, seal, sha256_file
from ensgan.metrics.features import FeatureSource, open_features
from ensgan.search import api, search
from ensgan.search.forms import COMPONENTS
from ensgan.sweep.executor import Executor, Needs
from ensgan.sweep.inputs import Inputs
from ensgan.sweep.manifest import Earlier
from ensgan.sweep.member_job import purpose_seed
from ensgan.sweep.records import MemberResult
from ensgan.types import Front, PoolScores, read_labels

REVISION = 1
"""Raise it when a change of this module changes its results."""
_ALWAYS = {"objectives": "paper", "components": 32, "third": None}
"""Values of newer settings that equal earlier behaviour: they are left out of keys."""
TAKEN = "taken-"
"""Begins the names of files with scores taken over from another sweep."""
LARGE_POOL = 1e13
"""Multiplications above which a pool's blocks become tasks (minutes of one core)."""
LEAST_MEMORY = 1 << 28
"""Working memory of such a task, at least."""

OnProgress = Callable[[int, int], None]


def score(
    inputs: Inputs,
    members: Sequence[MemberResult],
    on_progress: OnProgress,
    executor: Callable[[], Executor] | None = None,
    earlier: Earlier | None = None,
) -> tuple[PoolScores, Path]:
    """Densities, coverage masks and overlaps of the pool, and their file.

    The blocks of a large pool are tasks of the executor.

    Args:
        earlier: the pool that this one grew from; what its scores hold is not computed again.

    Raises:
        IntegrityError: weights or features were replaced, swapped or cut off since they were made.
    """
    for member in members:
        member.unchanged("weights")  # nothing below reads them, and a report would name them
    settings, scoring = inputs.spec.score, inputs.scoring
    names = tuple(member.name for member in members)
    by_class = scored_by_class(settings, len(inputs.dataset.class_names))
    key = _key(inputs, [member.features for member in members])
    path = inputs.folder.file("scores", f"scores-{key}.npz")
    known = _known(PoolScores, path)
    about = (names, settings.k, scoring.extractor_key)
    if known is not None and (known.names, known.k, known.extractor) == about:
        return known, path
    for member in members:
        member.unchanged("features")
        if by_class:
            member.unchanged("samples")
    memory = int(settings.memory_gb * 2**30)
    mapper: metrics.Mapper = map
    if executor is not None and _products(members) > LARGE_POOL:
        needs = Needs(gpus=1.0)  # one stream of blocks keeps a card busy
        memory = max(memory // executor().at_once(needs), LEAST_MEMORY)
        mapper = executor().mapper(replace(needs, memory=memory))
    scores = metrics.score_pool(
        _mapped(scoring.reference),
        [_mapped(member.features) for member in members],
        names,
        k=settings.k,
        labels=_labels(inputs, members) if by_class else None,
        resamples=settings.resamples,
        backend=settings.backend,
        memory_bytes=memory,
        extractor=scoring.extractor_key,
        mapper=mapper,
        # Shared by all pools that the sweep has had, since blocks are named by their content.
        checkpoint=path.with_name("blocks"),
        known=known_scores(inputs, members, earlier),
        approximate=_approximation(inputs, members),
        on_progress=on_progress,
    )
    scores.save(path)
    seal(path)
    return scores, path


def scored_by_class(settings: ScoreSpec, classes: int) -> bool:
    """Whether a pool is scored within each class."""
    return settings.classes == "per-class" and classes > 1


def scores_key(reference: Path, features: Sequence[Path], settings: ScoreSpec, classes: int) -> str:
    """Key of the scores of these features, whose file names hash what made them."""
    by_class = scored_by_class(settings, classes) and "per-class"
    asked = [*filter(None, [settings.resamples, by_class])]
    names = [path.name for path in features]
    return content_key(REVISION, reference.name, names, settings.k, *asked)


def _key(inputs: Inputs, features: Sequence[Path]) -> str:
    spec, classes = inputs.spec, len(inputs.dataset.class_names)
    key = scores_key(inputs.scoring.reference, features, spec.score, classes)
    if spec.score.approximate_inter is None:
        return key
    # Which pairs are scored exactly depends on the search.
    return content_key(key, spec.score.approximate_inter, spec.search.model_dump(), spec.seed)


def _approximation(inputs: Inputs, members: Sequence[MemberResult]) -> metrics.Approximation | None:
    spec = inputs.spec
    find = partial(_search, inputs, members, spec.search.objectives)
    choose, share = api.pairs_to_score(find, spec.search.inter), spec.score.approximate_inter
    return None if share is None else metrics.Approximation(share, choose)


def known_scores(
    inputs: Inputs, members: Sequence[MemberResult], earlier: Earlier | None
) -> list[PoolScores]:
    """Scores that remain valid: of the pool that this one grew from, and of sweeps that joined."""
    parts = [_grown_from(inputs, members, earlier), *_taken_over(inputs, members)]
    exactly = inputs.spec.score.approximate_inter is None
    return [part for part in parts if part and not (exactly and part.estimated.any())]


def _grown_from(
    inputs: Inputs, members: Sequence[MemberResult], earlier: Earlier | None
) -> PoolScores | None:
    """Scores of the earlier pool, if their key is that of today's settings."""
    if earlier is None or earlier.scores is None:
        return None
    known = _known(PoolScores, earlier.scores)
    if known is None or not set(known.names) <= set(earlier.features):
        return None
    key = _key(inputs, [earlier.features[name] for name in known.names])
    if earlier.scores.stem != f"scores-{key}":
        return None
    now = {member.name: member.features for member in members}
    return known.part([n for n in known.names if now.get(n) == earlier.features[n]])


def _taken_over(inputs: Inputs, members: Sequence[MemberResult]) -> Iterator[PoolScores]:
    """Scores from other sweeps; each file names the SHA-256 of its features."""
    scoring = inputs.scoring
    paths = sorted((inputs.folder.path / "scores").glob(f"{TAKEN}*.npz"))
    if not paths or inputs.spec.score.resamples:
        return
    real = taken_of(inputs)
    now = {member.name: member.contents.get("features") for member in members}
    for path in paths:
        known = _known(PoolScores, path)
        if known is None or (known.k, known.extractor) != (scoring.k, scoring.extractor_key):
            continue
        if known.contents[:1] == (real,):
            of = dict(zip(known.names, known.contents[1:], strict=True))
            yield known.part([name for name in known.names if now.get(name) == of[name]])


def taken_of(inputs: Inputs) -> str:
    """What scores must share to be taken over, beside the members' features."""
    by_class = scored_by_class(inputs.spec.score, len(inputs.dataset.class_names))
    return content_key(sha256_file(inputs.scoring.reference), by_class)


def _labels(inputs: Inputs, members: Sequence[MemberResult]) -> metrics.PoolLabels:
    """Labels of the real images and of every member's."""
    real = read_labels(inputs.dataset.splits["train"])
    return real, [read_labels(member.samples) for member in members]


def _products(members: Sequence[MemberResult]) -> float:
    """Estimated multiplications of scoring the pool."""
    points, dim = _mapped(members[0].features)().shape
    return float(len(members) ** 2 / 2 * points**2 * dim)


def find_front(
    inputs: Inputs, scores: PoolScores, members: Sequence[MemberResult], on_progress: OnProgress
) -> tuple[Front, Path, Path]:
    """The Pareto front, its file, and the table of all trials."""
    settings, seed = inputs.spec.search, inputs.spec.seed
    costs = member_costs(settings, members)
    asked = {k: v for k, v in settings.model_dump().items() if _ALWAYS.get(k, ...) != v}
    key = content_key(
        REVISION, api.pool_key(scores), asked, seed, *([] if costs is None else [costs])
    )
    path = inputs.folder.file("search", f"front-{key}.json")
    trials = inputs.folder.file("search", f"trials-{key}.csv")
    known = _known(Front, path) if is_whole(trials) else None
    if known is not None and known.pool == api.pool_key(scores):
        return known, path, trials
    tables = tables_of(inputs, scores, members, on_progress)
    front = _search(inputs, members, tables, scores, record=trials, on_progress=on_progress)
    front.save(path)
    for result in (path, trials):
        seal(result)
    return front, path, trials


def _search(
    inputs: Inputs,
    members: Sequence[MemberResult],
    objectives: api.ObjectiveTables | str,
    scores: PoolScores,
    **how: Any,
) -> Front:
    settings = inputs.spec.search
    asked = settings.model_dump(include={"sampler", "trials", "inter", "third", "min_size"})
    return search(
        scores,
        seed=purpose_seed(inputs.spec.seed, "search"),
        objectives=objectives,
        costs=member_costs(settings, members),
        max_size=settings.max_size and min(settings.max_size, len(scores)),
        **asked,
        **how,
    )


def tables_of(
    inputs: Inputs,
    scores: PoolScores,
    members: Sequence[MemberResult],
    on_progress: OnProgress | None = None,
) -> api.ObjectiveTables:
    """The tables of the form that the sweep's front is searched by."""
    settings = inputs.spec.search
    return objective_tables(
        settings.objectives,
        scores,
        _mapped(inputs.scoring.reference),
        [_mapped(member.features) for member in members],
        inter=settings.inter,
        components=settings.components,
        on_progress=on_progress,
    )


ResultT = TypeVar("ResultT", PoolScores, Front)


def _known(kind: type[ResultT], path: Path) -> ResultT | None:
    """A result of an earlier session; None if there is none or it is damaged."""
    try:
        return kind.load(path) if is_whole(path) else None
    except DataError:
        return None


def _mapped(path: Path) -> Callable[[], Any]:
    """Features as a function that maps their file, so that tasks carry a path and no array."""
    return partial(map_array, path, larger=True)


def objective_tables(
    form: str,
    scores: PoolScores,
    real: FeatureSource,
    fakes: Sequence[FeatureSource],
    *,
    inter: str = "symmetric",
    components: int = COMPONENTS,
    on_progress: OnProgress | None = None,
) -> api.ObjectiveTables:
    """The tables of a form; features are opened only if it needs them.

    Args:
        form: its name.
        scores: of the pool.
        real, fakes: the features that were scored, in pool order.
        inter: form of Inter-d, for the forms that have it.
        components: for ``frechet``, see :func:`union_moments`.
        on_progress: called with (pairs done, pairs in all) while pairs are measured.

    Raises:
        InputError: an unknown form, or features of another pool.
    """
    features = api.ScoredFeatures(
        real=partial(open_features, real, "real"),
        fakes=[partial(open_features, f, n) for f, n in zip(fakes, scores.names, strict=True)],
        pair_precision=lambda: (
            metrics.measure_pool(
                real, fakes, scores.names, scores.k, on_progress=on_progress
            ).pair_precision
        ),
    )
    return api.find_form(form).tables(api.FormInputs(scores, inter, features, components))


def member_costs(
    settings: SearchSpec, members: Sequence[MemberResult]
) -> Mapping[str, float] | None:
    """What the third objective sums: stored numbers or sampling seconds of every member.

    ``parameters`` are the numbers in a member's weight file; ``seconds`` those that its images
    took when they were made. None where nothing is summed.

    Raises:
        IntegrityError: a weight file that cannot be read.
        InputError: members whose sampling was not timed.
    """
    if settings.third == "parameters":
        tensors = {member.name: read_tensor_infos(member.weights).values() for member in members}
        return {name: float(sum(info.size for info in infos)) for name, infos in tensors.items()}
    if settings.third == "seconds":
        untimed = [member.name for member in members if "sample" not in member.seconds]
        if untimed:
            raise InputError(
                f"search.third: seconds, but sampling {', '.join(untimed)} was not timed: "
                "use members or parameters"
            )
        return {member.name: member.seconds["sample"] for member in members}
    return None
