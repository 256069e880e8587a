"""Optuna studies: the samplers, EnsembleSampler in a foreign study, storage."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from search_pool import made_up_pool

from ensgan.errors import InputError, StoreError
from ensgan.search import EnsembleSampler, Evaluator, search
from ensgan.search.optuna.study import _open_storage


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.mark.parametrize("sampler", ["ensemble", "nsga2", "nsga3", "tpe", "random"])
def test_samplers_fill_a_front_reproducibly(sampler: str, tmp_path: Path) -> None:
    scores = made_up_pool(0)
    first = search(scores, sampler=sampler, trials=12, seed=5, record=tmp_path / "trials.csv")
    second = search(scores, sampler=sampler, trials=12, seed=5)
    assert first.points == second.points
    assert first.trials == 12
    assert len((tmp_path / "trials.csv").read_text().splitlines()) == 13


def test_ensemble_sampler_beats_optuna_by_far() -> None:
    scores = made_up_pool(2, members=24)
    best = search(scores, seed=0, trials=20_000).hypervolume
    assert search(scores, sampler="ensemble", trials=60, seed=1).hypervolume >= 0.999 * best
    assert search(scores, sampler="random", trials=30, seed=1).hypervolume < 0.9 * best


@pytest.mark.parametrize("kind", ["int", "bool", "reversed"])
def test_ensemble_sampler_in_a_foreign_study(kind: str) -> None:
    scores = made_up_pool(0)
    evaluator = Evaluator(scores)
    choices = {"bool": [False, True], "reversed": [1, 0]}

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        trial.suggest_float("learning_rate", 0.1, 1.0)
        chosen = [
            i
            for i, name in enumerate(scores.names)
            if (
                trial.suggest_int(name, 0, 1)
                if kind == "int"
                else trial.suggest_categorical(name, choices[kind])
            )
        ]
        return evaluator.evaluate(chosen)[:2]

    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=EnsembleSampler(scores, seed=0)
    )
    study.optimize(objective, n_trials=15)
    subsets = [tuple(t.params[n] for n in scores.names) for t in study.trials]
    assert len(set(subsets)) == 15
    assert all(sum(map(bool, bits)) >= 2 for bits in subsets)
    assert len(study.best_trials) > 5


def test_a_used_up_front_is_followed_by_everything_else_once() -> None:
    scores = made_up_pool(0, members=7)
    front = search(scores, sampler="ensemble", trials=10_000)
    assert front.trials == front.distinct == 2**7 - 7 - 1
    assert front.points == search(scores).points
    subsets = []

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        subsets.append(tuple(trial.suggest_int(name, 0, 1) for name in scores.names))
        return 0.0, 0.0

    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=EnsembleSampler(scores, seed=0)
    )
    study.optimize(objective, n_trials=122)
    assert len(set(subsets[:120])) == 120
    assert all(sum(subset) >= 2 for subset in subsets)


def test_two_samplers_on_one_study_share_what_was_tried() -> None:
    scores = made_up_pool(0)
    study = optuna.create_study(directions=["maximize", "minimize"])
    workers = [EnsembleSampler(scores, seed=0) for _ in range(2)]
    for number in range(20):
        study.sampler = workers[number % 2]
        trial = study.ask()
        running = study.ask() if number == 4 else None  # a trial that another worker has begun
        for asked in (trial, running):
            if asked is not None:
                [asked.suggest_int(name, 0, 1) for name in scores.names]
        study.tell(trial, (0.5, 0.5))
    subsets = [tuple(trial.params.values()) for trial in study.trials]
    assert len(set(subsets)) == 21


def test_members_that_are_always_in_need_no_parameter() -> None:
    front = search(
        made_up_pool(0, members=8), sampler="ensemble", trials=10_000, include=["GAN0@20000"]
    )
    assert front.trials == front.distinct == 2**7 - 1


def test_a_parameter_that_is_not_binary_is_refused() -> None:
    scores = made_up_pool(0)
    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=EnsembleSampler(scores, seed=0)
    )
    with pytest.raises(InputError, match="must be binary"):
        study.ask().suggest_int(scores.names[0], 0, 3)


def test_a_stored_study_goes_on(tmp_path: Path) -> None:
    scores = made_up_pool(0)
    journal = str(tmp_path / "study.journal")
    first = search(scores, sampler="ensemble", trials=5, study_storage=journal)
    longer = search(scores, sampler="ensemble", trials=9, study_storage=journal)
    assert (first.trials, longer.trials) == (5, 9)
    assert longer.hypervolume > first.hypervolume
    assert longer.distinct == 9


def test_a_resumed_study_draws_new_numbers(tmp_path: Path) -> None:
    scores = made_up_pool(0, members=10)
    database = f"sqlite:///{tmp_path / 'study.db'}"
    search(scores, sampler="random", trials=4, study_storage=database)
    longer = search(scores, sampler="random", trials=8, study_storage=database)
    assert (longer.trials, longer.distinct) == (8, 8)


def test_warm_start_is_tried_first() -> None:
    scores = made_up_pool(0)
    front = search(scores, seed=0)
    warm = search(scores, sampler="random", trials=len(front), warm_start=True)
    assert warm.hypervolume == pytest.approx(front.hypervolume)


def test_constraints_reach_the_study() -> None:
    scores = made_up_pool(0)
    for sampler in ("ensemble", "random"):
        front = search(
            scores, sampler=sampler, trials=40, include=["GAN0@20000"], max_size=4, seed=1
        )
        for point in front:
            assert "GAN0@20000" in point.members
            assert len(point.members) <= 4


def test_a_locked_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("create table t (x)")
    holder.execute("begin exclusive")
    try:
        with pytest.raises(StoreError, match="locked by another process"):
            search(
                made_up_pool(0),
                sampler="random",
                trials=2,
                study_storage=f"sqlite:///{path}?timeout=0.1",
            )
    finally:
        holder.close()


def test_a_locked_journal_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ensgan.search.optuna import study as module

    monkeypatch.setattr(module, "_LOCK_PATIENCE_SECONDS", 0.1)
    (tmp_path / "study.journal.lock").symlink_to("held")
    with pytest.raises(StoreError, match="delete the lock"):
        search(
            made_up_pool(0),
            sampler="random",
            trials=2,
            study_storage=str(tmp_path / "study.journal"),
        )


def test_search_imports_without_optuna_and_pymoo() -> None:
    code = (
        "import sys\n"
        "for name in ('optuna', 'pymoo'): sys.modules[name] = None\n"
        "from ensgan.search import samplers, search\n"
        "assert 'ensemble' in samplers()\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("content", ["file,label\na.png,x\n", '{"A@1": 1.0}', "[1]", "{"])
def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "costs.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"costs.json is no journal of Optuna"):
        search(made_up_pool(0), sampler="tpe", trials=3, study_storage=str(path))
    assert path.read_text() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["costs.json"]


@pytest.mark.parametrize("table", ["studies", "patients"])
def test_a_database_of_another_program_gets_no_tables(tmp_path: Path, table: str) -> None:
    path = tmp_path / "mine.db"
    with closing(sqlite3.connect(path)) as mine:
        mine.execute(f"CREATE TABLE {table} (id INT)")
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"mine.db is a database of another program than Optuna"):
        search(made_up_pool(0), sampler="random", trials=3, study_storage=f"sqlite:///{path}")
    assert path.read_bytes() == before


def test_a_database_without_its_driver_is_one_sentence() -> None:
    with pytest.raises(InputError, match="the driver of mssql is not installed"):
        search(made_up_pool(0), sampler="random", trials=3, study_storage="mssql://u:p@h/d")


def test_a_journal_that_was_cut_off_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    search(made_up_pool(0), sampler="random", trials=3, study_storage=str(path))
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    with pytest.raises(InputError, match=r"study.journal ends in the middle of a line"):
        search(made_up_pool(0), sampler="random", trials=3, study_storage=str(path))
    assert path.read_bytes() == whole[:-30]
    path.write_bytes(whole[:-30] + b"\n" + whole)
    with pytest.raises(StoreError, match=r"study.journal cannot be used"):
        search(made_up_pool(0), sampler="random", trials=3, study_storage=str(path))


def test_searches_that_make_a_database_at_once_all_end(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/new.db"
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: _open_storage(address), range(4)))
    assert all(storage.get_all_studies() == [] for storage in opened)
