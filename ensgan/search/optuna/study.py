"""Optuna studies over a pool: one binary parameter per member, 1 takes it in."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy.event
from optuna.distributions import IntDistribution
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from ensgan.errors import DataError, InputError, StoreError
from ensgan.files import parse_json
from ensgan.inputs import database_path, require_database, require_file
from ensgan.search.ledger import SearchLedger
from ensgan.search.optuna.sampler import EnsembleSampler
from ensgan.search.sampler import SamplerInputs

_BIT = IntDistribution(0, 1)
_CONSTRAINT = "ensemble"
_LOCK_PATIENCE_SECONDS = 3.0
_LONGEST_LINE = 1 << 20
_ATTEMPTS = 20


def search_with_optuna(
    ledger: SearchLedger, inputs: SamplerInputs, *, sampler: str, settings: Mapping[str, Any]
) -> None:
    """Run an Optuna study until the run's budget ends or every allowed subset is tried.

    Args:
        ledger: what counts the trials.
        inputs: subsets to try first; the storage, ``sqlite:///FILE`` or another database URL, a
            journal's file name, or None; the study's name there: a stored one is continued.
        sampler: class name: ``EnsembleSampler``, or one of ``optuna.samplers``.
        settings: keyword arguments of Optuna's own sampler.

    Raises:
        StoreError: the storage is locked or cannot be used.
    """
    storage = inputs.study_storage
    with quiet_optuna(), _storage_errors(storage):
        study = optuna.create_study(
            directions=["maximize", "minimize", "minimize"][: len(ledger.reference)],
            storage=None if storage is None else _open_storage(storage),
            study_name=inputs.study_name,
            load_if_exists=True,
        )
        trials = _Trials(ledger, study)
        trials.replay()
        # A study that goes on must not draw the same numbers again.
        seed = (ledger.seed + trials.count) % 2**32
        if sampler == EnsembleSampler.__name__:
            study.sampler = EnsembleSampler(
                ledger.evaluator, seed=seed, constraints=ledger.constraints, third=ledger.third
            )
        else:
            study.sampler = getattr(optuna.samplers, sampler)(seed=seed, **settings)
        trials.enqueue(inputs.starts)
        # Of a small pool every subset may have been tried before the budget ends.
        every = ledger.constraints.at_most()
        while not ledger.finished and trials.feasible < every:
            trials.one()


class _Trials:
    """Runs the trials of a study and enters them in a ledger."""

    def __init__(self, ledger: SearchLedger, study: Study) -> None:
        self.ledger = ledger
        self.study = study
        self.free = [(int(i), ledger.evaluator.names[i]) for i in ledger.constraints.free]
        self.required = ledger.constraints.required.tolist()
        self.known: dict[tuple[int, ...], tuple[float, ...]] = {}
        self.feasible = 0
        """Different subsets tried that meet every constraint."""
        self.count = 0
        self._bits = dict.fromkeys((name for _, name in self.free), _BIT)

    def parameters(self, members: Collection[int]) -> dict[str, int]:
        """A subset as the values of the study's parameters."""
        return {name: int(index in members) for index, name in self.free}

    def replay(self) -> None:
        """Count the trials a stored study already has."""
        for trial in self.study.get_trials(deepcopy=False):
            self.count += 1
            if trial.state == TrialState.COMPLETE:
                self._evaluate([i for i, name in self.free if trial.params.get(name)])

    def enqueue(self, starts: Sequence[Sequence[int]]) -> None:
        """Have subsets tried first, each once."""
        for members in starts:
            if not isinstance(self.study.sampler, EnsembleSampler):
                self.study.enqueue_trial(self.parameters(members), skip_if_exists=True)
            elif not self.ledger.finished and tuple(sorted(members)) not in self.known:
                self._add(members)

    def one(self) -> None:
        """Try one subset."""
        if isinstance(self.study.sampler, EnsembleSampler):
            self._add(self.study.sampler.propose(self.study))
        else:
            self._ask()

    def _add(self, members: Sequence[int]) -> None:
        """Add a finished trial in one go: asking for each member in turn costs ten times more."""
        values, violation = self._evaluate(members)
        assert values is not None  # proposals and starts have two members and more
        self.study.add_trial(
            optuna.trial.create_trial(
                values=values,
                params=self.parameters(set(members)),
                distributions=self._bits,
                constraints={_CONSTRAINT: violation} if violation > 0 else None,
            )
        )

    def _ask(self) -> None:
        trial = self.study.ask(self._bits)
        chosen = trial.params
        values, violation = self._evaluate([index for index, name in self.free if chosen[name]])
        if violation > 0:
            trial.set_constraint(_CONSTRAINT, violation)
        if values is None:
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            self.study.tell(trial, values)

    def _evaluate(self, chosen: Sequence[int]) -> tuple[tuple[float, ...] | None, float]:
        """Objectives (None below two members) and how far from allowed; duplicates only count."""
        members = tuple(sorted({*chosen, *self.required}))
        row = self.ledger.evaluator.subsets([members])
        violation = float(self.ledger.constraints.violation(row)[0])
        if members in self.known:
            self.ledger.repeat(members, *self.known[members][:2])
        elif len(members) < 2:
            self.ledger.repeat(members)
            return None, violation
        else:
            values = self.ledger.offer(row, record_all=True)
            if violation > 0:
                self.ledger.repeat(members)
            else:
                self.feasible += 1
            columns = (values.first, values.second, self.ledger.costs_of(row))
            self.known[members] = tuple(float(c[0]) for c in columns[: len(self.ledger.reference)])
        return self.known[members], violation


def _open_storage(storage: str) -> BaseStorage:
    if "://" in storage:
        return _open_database(storage)
    path = Path(storage)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(path.name + ".lock")
    waited = time.monotonic()
    while lock.is_symlink() or lock.exists():
        if time.monotonic() - waited > _LOCK_PATIENCE_SECONDS:
            raise StoreError(
                f"the Optuna journal {path} is locked by another process ({lock}): wait for it "
                "to end, use another file, or delete the lock if that process is gone"
            )
        time.sleep(0.05)
    _require_journal(path)
    return JournalStorage(JournalFileBackend(str(path)))


def _require_journal(path: Path) -> None:
    """Refuse a file that is no journal of Optuna, or was cut off: lines would be appended to it.

    Raises:
        InputError: it is something else; or a process was killed, or a disk was full, in the
            middle of a line.
    """
    if not path.exists() or (path.is_file() and path.stat().st_size == 0):
        return
    require_file(path)
    with path.open("rb") as stream:
        first = stream.readline(_LONGEST_LINE)
        stream.seek(-1, os.SEEK_END)
        end = stream.read()
    try:
        entry = parse_json(first, str(path))
    except DataError:
        entry = None
    if not isinstance(entry, dict) or "op_code" not in entry:
        raise InputError(
            f"--storage {path} is no journal of Optuna: name a new file, or one of its"
        )
    if end != b"\n":
        raise InputError(
            f"the Optuna journal {path} ends in the middle of a line (a process was killed while "
            "it wrote?): delete its last line, or use another file"
        )


def _open_database(url: str) -> BaseStorage:
    if path := database_path(url):
        require_database(path, {"studies", "version_info"}, "Optuna")
    for attempt in range(_ATTEMPTS):
        try:
            database = RDBStorage(url)
            break
        except ImportError as error:
            raise InputError(
                f"--storage: the driver of {url.partition(':')[0]} is not installed: install it, "
                "or use sqlite:///FILE or a journal"
            ) from error
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            # Two searches that make the tables of a new database at once: one of them is late.
            late = any(sign in str(error) for sign in ("alembic_version", "already exists"))
            if not late or attempt == _ATTEMPTS - 1:
                raise
            time.sleep(0.2)
    if database.engine.dialect.name == "sqlite":
        # A trial writes one row per member. Without a disk flush at every row a crash of the
        # machine can lose the last trials, never the database.
        def relax(connection: Any, record: object) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")

        sqlalchemy.event.listen(database.engine, "connect", relax)
        database.engine.dispose()
    return database


@contextmanager
def _storage_errors(storage: str | None) -> Iterator[None]:
    try:
        yield
    except (
        SQLAlchemyError,
        optuna.exceptions.StorageInternalError,
        OSError,
        JSONDecodeError,  # of a journal's line
    ) as error:
        cause = error.__cause__ or error
        text = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        if "locked" in str(error) or "locked" in text:
            raise StoreError(
                f"the Optuna storage {storage} is locked by another process: wait for it to end "
                "or use another storage"
            ) from error
        raise StoreError(f"the Optuna storage {storage} cannot be used: {text}") from error


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keep Optuna's line per trial and its notices about experimental samplers off stderr."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
