"""What every form of the objectives and every sampler must keep to, whichever are registered."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_pool import every_subset, made_up_pool

from ensgan.errors import DataError, InputError
from ensgan.metrics import measure_pool, score_pool
from ensgan.search import (
    FORMS,
    RULES,
    SAMPLERS,
    Constraints,
    Evaluator,
    FormInputs,
    ObjectiveForm,
    ObjectiveTables,
    Ratio,
    ScoredFeatures,
    find_form,
    hypervolume,
    own_samplers,
    pareto_front,
    search,
    select,
)
from ensgan.search.forms.density_coverage import tables_from_scores
from ensgan.search.ledger import SearchLedger
from ensgan.search.own_samplers import LocalSearch
from ensgan.types import Front, FrontPoint, Objective, PoolScores

MEMBERS = 8
FORM_NAMES = FORMS.names()
# Trials after which a sampler must have tried every ensemble of a pool of eight, if it promises so.
EXACT = {"pareto-local": None, "exhaustive": None, "ensemble": 400}


def inputs(seed: int = 0, members: int = MEMBERS) -> FormInputs:
    """A small pool with its features; some members are denser than the real data."""
    random = np.random.default_rng(seed)
    real = random.normal(size=(40, 3)) * (3.0, 2.0, 1.0)
    fakes = [
        random.normal(size=(int(random.integers(22, 34)), 3)) * random.uniform(0.2, 2.5, 3)
        + random.normal(size=3) * 0.7
        for _ in range(members)
    ]
    names = [f"G{i // 3}@{1000 * (i % 3 + 1)}" for i in range(members)]
    scores = score_pool(real, fakes, names)
    features = ScoredFeatures(
        lambda: real,
        [lambda fake=fake: fake for fake in fakes],
        lambda: measure_pool(real, fakes, scores.names).pair_precision,
    )
    return FormInputs(scores, features=features)


@pytest.fixture(scope="module")
def pool() -> FormInputs:
    made = inputs()
    assert (made.scores.density > 1).any() and (made.scores.density < 1).any()
    return made


@pytest.mark.parametrize("name", FORM_NAMES)
@pytest.mark.parametrize("sampler", SAMPLERS.names())
def test_every_sampler_searches_every_form(pool: FormInputs, sampler: str, name: str) -> None:
    """Its front is free of domination, its values are exact, its hypervolume is that of them."""
    tables = find_form(name).tables(pool)
    evaluator = Evaluator(tables)
    trials = EXACT.get(sampler, 10 if sampler == "gp" else 60)
    front = search(pool.scores, sampler=sampler, objectives=tables, trials=trials, seed=1)
    found = np.array([(point.first, point.second) for point in front])
    members = [evaluator.indices(point.members) for point in front]
    fresh = evaluator(evaluator.subsets(members))
    np.testing.assert_allclose(found, np.column_stack((fresh.first, fresh.second)), atol=1e-12)
    assert front.hypervolume == pytest.approx(hypervolume(found), abs=1e-12)
    assert len(pareto_front(found)) == len(found)
    assert front.form == name
    assert front.axes[0].maximise and not front.axes[1].maximise
    assert Front.from_json(front.to_json()) == front
    if sampler in EXACT:
        every = evaluator(every_subset())
        values = np.column_stack((every.first, every.second))
        np.testing.assert_allclose(found, values[pareto_front(values)], atol=1e-12)


@pytest.mark.parametrize("name", FORM_NAMES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, MEMBERS - 1))
def test_moves_equal_the_definition(name: str, seed: int, size: int) -> None:
    """Every addition, removal and swap, against a fresh evaluation of the subset it leads to."""
    evaluator = Evaluator(find_form(name).tables(inputs(seed % 5)))
    random = np.random.default_rng(seed)
    members = random.choice(MEMBERS, size, replace=False).tolist()
    outside = np.delete(np.arange(MEMBERS), members)
    near = evaluator.moves(members, outside, additions_only=bool(seed % 2))
    shape = near.values.first.shape
    assert shape == (1 if seed % 2 else size + 1, MEMBERS - size + 1)
    fresh = evaluator(evaluator.subsets(near.subset(i, j) for i, j in np.ndindex(*shape)))
    for field in ("first", "second", "mean", "coverage"):
        np.testing.assert_allclose(
            getattr(near.values, field).ravel(), getattr(fresh, field), rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("name", FORM_NAMES)
def test_pairs_equal_the_definition(name: str) -> None:
    """Every ensemble of two and whether it is allowed, against a fresh evaluation."""
    evaluator = Evaluator(find_form(name).tables(inputs(3)))
    one, other = np.triu_indices(MEMBERS, 1)
    subsets = evaluator.subsets(np.column_stack((one, other)).tolist())
    values, fresh = evaluator.pairs(one, other), evaluator(subsets)
    for field in ("first", "second", "mean", "coverage"):
        np.testing.assert_allclose(
            getattr(values, field), getattr(fresh, field), rtol=0, atol=1e-12
        )
    for limits in ({"max_per_gan": 1}, {"exclude": [evaluator.names[2]]}, {"min_size": 3}):
        constraints = Constraints.resolve(evaluator.names, **limits)
        allowed = constraints.feasible(subsets)
        assert (constraints.pairs(one, other) == allowed).all() and not allowed.all()


@pytest.mark.parametrize("name", [form.name for form in FORMS if not form.needs_features])
@pytest.mark.parametrize("sampler", ["exhaustive", "pareto-local"])
def test_bounds_and_constraints_lose_nothing(
    name: str, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A larger pool with constraints: exhaustive search prunes, and misses no ensemble."""
    # Without its head start the front is what the bounds let through, and nothing else.
    monkeypatch.setattr(own_samplers, "_HEAD_START", 0)
    scores = made_up_pool(3, members=15)
    # All pairs overlap, so that the bound of the second objective has something to add up.
    scores = replace(scores, directed=0.2 + 0.7 * scores.directed)
    front = search(
        scores, sampler=sampler, objectives=name, max_size=5, include=["GAN0@20000"], max_per_gan=2
    )
    evaluator = Evaluator(scores, objectives=name)
    subsets = every_subset(15)
    gan = np.arange(15) % 4
    fits = (subsets.sum(axis=1) <= 5) & subsets[:, 0]
    for number in range(4):
        fits &= subsets[:, gan == number].sum(axis=1) <= 2
    values = evaluator(subsets[fits])
    best = hypervolume(np.column_stack((values.first, values.second)))
    assert front.hypervolume == pytest.approx(best, abs=1e-12)
    if sampler == "exhaustive":
        assert front.trials < fits.sum() / 2


@pytest.mark.parametrize("name", FORM_NAMES)
@pytest.mark.parametrize("missing", [0, 1, 2, 3])
def test_no_completion_is_better_than_its_bounds(pool: FormInputs, name: str, missing: int) -> None:
    """Pairs of members and everything later that completes them, against both bounds."""
    # Very different sample counts, so that shares matter.
    counts = np.array([5, 900, 40, 7, 300, 12, 80, 2000])
    tables = replace(find_form(name).tables(pool), shares=counts.astype(np.float64))
    evaluator = Evaluator(tables)
    ledger = SearchLedger(evaluator, Constraints.resolve(evaluator.names))
    bounds = own_samplers.Enumeration(ledger)
    size = 2 + missing
    for pair in itertools.combinations(range(MEMBERS - missing), 2):
        child = np.array([pair])
        later = itertools.combinations(range(pair[1] + 1, MEMBERS), missing)
        completions = [(*pair, *rest) for rest in later]
        if not completions:
            continue
        values = evaluator(evaluator.subsets(completions))
        least = bounds.second_bound(child, np.array([pair[1] + 1]), size)[0]
        assert least <= values.second.min() + 1e-12
        for known in (False, True):
            most = bounds.first_bound(child, missing, coverage_known=known)[0]
            assert most >= values.first.max() - 1e-12


def test_a_search_begins_with_every_pair_once() -> None:
    scores = made_up_pool(5, members=30)
    evaluator = Evaluator(scores)
    ledger = SearchLedger(evaluator, Constraints.resolve(scores.names))
    LocalSearch(ledger).step()
    pairs = evaluator(evaluator.subsets(itertools.combinations(range(30), 2)))
    assert ledger.trials == len(pairs.first)
    values = np.column_stack((pairs.first, pairs.second))
    best = values[pareto_front(values)]
    np.testing.assert_allclose(ledger.archive.first[::-1], best[:, 0], atol=1e-12)


def test_the_former_name_is_read() -> None:
    assert find_form("density-coverage").name == "paper"
    front = search(made_up_pool(0), objectives="density-coverage")
    assert front.points == search(made_up_pool(0), objectives="paper").points
    assert front.form == "paper" and front.objectives[0] == "intra_d:max"
    older = front.to_json()
    assert Front.from_json(older).form == "paper"


def test_older_fronts_of_other_forms_load() -> None:
    """They called any first objective intra_d."""
    value = {
        "objectives": ["precision_recall:max", "precision_recall_between:min"],
        "sampler": "x", "seed": 0, "trials": 1, "distinct": 1, "seconds": 0.1, "hypervolume": 0.1,
        "points": [
            {
                "members": ["A@1", "B@1"], "intra_d": 0.5, "inter_d": 0.2,
                "measures": {"precision": 0.4, "recall": 0.6},
            }
        ],
    }  # fmt: skip
    front = Front.from_json(value)
    point = front.points[0]
    assert (front.form, point.first, point.second) == ("precision-recall", 0.5, 0.2)
    assert point.density is None and point.coverage is None
    with pytest.raises(DataError, match="not intra_d"):
        _ = point.intra_d
    assert list(front.cells(point)) == [
        "precision-recall",
        "mutual precision",
        "precision",
        "recall",
    ]
    assert Front.from_json(front.to_json()) == front


NEAREST = ObjectiveForm(
    "worst-member",
    "density of the worst member; overlap",
    (Objective("worst", "worst density"), Objective("overlap", "overlap", maximise=False)),
    lambda given: replace(
        tables_from_scores(given.scores),
        axes=NEAREST.axes,
        form=NEAREST.name,
        whole=_worst(given.scores),
        describe=lambda found: {"coverage": found.coverage},
    ),
    ratio=None,
)


def _worst(scores: PoolScores) -> Callable[[np.ndarray], np.ndarray]:
    return lambda subsets: np.where(subsets, scores.density, 0.0).min(
        axis=1, where=subsets, initial=9.0
    )


@pytest.fixture
def foreign_form() -> object:
    """A form from outside: one value, registered."""
    FORMS.register(NEAREST)
    yield NEAREST
    FORMS.forget([NEAREST.name])


@pytest.mark.usefixtures("foreign_form")
@pytest.mark.parametrize("sampler", ["pareto-local", "exhaustive", "ensemble", "pymoo"])
def test_a_new_form_is_one_value(sampler: str) -> None:
    scores = made_up_pool(4, members=9)
    front = search(scores, sampler=sampler, objectives="worst-member", trials=600)
    for point in front:
        rows = [scores.names.index(name) for name in point.members]
        assert point.first == scores.density[rows].min()
    assert [axis.name for axis in front.axes] == ["worst density", "overlap"]
    again = Front.from_json(front.to_json())
    assert again == front and again.form == "worst-member" and again.axes == front.axes
    assert "worst density" in select(again, "knee").reason
    with pytest.raises(InputError, match="means nothing for objectives 'worst-member'"):
        select(front, "ratio")


def test_the_form_in_the_docs_is_searched_as_it_says() -> None:
    page = (Path(__file__).parents[2] / "docs" / "search.md").read_text()
    (block,) = (b for b in re.findall(r"```python\n(.*?)```", page, re.S) if "ObjectiveForm" in b)
    names: dict[str, Any] = {}
    exec(block, names)
    FORMS.register(names["REACH"])
    try:
        scores = made_up_pool(4, members=9)
        front = search(scores, sampler="exhaustive", objectives="reach", max_size=4)
        assert front.axes[0].name == "coverage" and front.form == "reach"
        covered = np.unpackbits(scores.masks, axis=1)[:, : scores.n_real]
        for point in front:
            rows = [scores.names.index(name) for name in point.members]
            assert point.first == pytest.approx(covered[rows].any(axis=0).mean(), abs=1e-12)
    finally:
        FORMS.forget(["reach"])


@pytest.mark.parametrize("form", list(FORMS), ids=FORM_NAMES)
def test_forms_say_what_they_are(form: ObjectiveForm, pool: FormInputs) -> None:
    tables = form.tables(pool)
    assert isinstance(tables, ObjectiveTables) and tables.form == form.name
    assert [axis.key for axis in tables.axes] == [axis.key for axis in form.axes]
    assert form.help and all(axis.name for axis in form.axes)
    point = Evaluator(tables).front_points([(0, 1)])[0]
    known = {"first", "second", *dict(point.measures)}
    assert isinstance(form.ratio, Ratio) and {form.ratio.above, form.ratio.below} <= known
    if form.needs_features:
        with pytest.raises(InputError, match="need the features"):
            form.tables(FormInputs(pool.scores))


def test_every_rule_picks_a_point_or_says_what_it_needs() -> None:
    front = search(made_up_pool(0))
    for rule in RULES:
        written = f"{rule.name}:5" if rule.takes_argument else rule.name
        validation = range(len(front)) if rule.needs_validation else None
        chosen = select(front, written, validation_scores=validation)
        assert chosen.point in front.points and chosen.reason.startswith(written)


def test_points_that_hold_no_intra_d_say_so() -> None:
    point = FrontPoint(("A@1", "B@1"), 0.5, 0.2, keys=("frechet", "frechet_between"))
    with pytest.raises(DataError, match="frechet and frechet_between, not inter_d"):
        _ = point.inter_d
    assert point.to_json() == {"members": ["A@1", "B@1"], "first": 0.5, "second": 0.2}
