"""The downstream stage: every strategy, every repeat, each one a resumable job."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensgan import downstream
from ensgan.files import content_key, read_json, write_json
from ensgan.types import Dataset, Samples

REVISION = 1


@dataclass(frozen=True)
class DatasetFiles:
    """A data set on shared storage, so that jobs carry paths and not images."""

    name: str
    class_names: tuple[str, ...]
    key: str
    splits: Mapping[str, Path]

    @classmethod
    def write(cls, dataset: Dataset, folder: Path) -> DatasetFiles:
        """Write the splits under the data set's content key; existing files are kept."""
        paths = {}
        for name, split in dataset.splits().items():
            paths[name] = folder / f"{dataset.key[:16]}-{name}.npz"
            if not paths[name].exists():
                split.save(paths[name])
        return cls(dataset.name, dataset.class_names, dataset.key, paths)

    def load(self) -> Dataset:
        """Read the data set back."""
        splits = {name: Samples.load(path) for name, path in self.splits.items()}
        return Dataset(self.name, splits["train"], splits["val"], splits["test"], self.class_names)


@dataclass(frozen=True)
class FileBank:
    """Sample bank whose members' images lie in files."""

    paths: Mapping[str, Path]

    def load(self, name: str) -> Samples:
        """Images of one member."""
        return Samples.load(self.paths[name])


@dataclass(frozen=True)
class EvaluateJob:
    """One classifier: a strategy, a repeat, and all it trains on."""

    strategy: downstream.Strategy
    repeat: int
    dataset: DatasetFiles
    bank: FileBank
    settings: downstream.ClassifierSettings
    seed: int
    folder: Path

    @property
    def path(self) -> Path:
        """Result file, named by everything the result depends on."""
        members = {name: self.bank.paths[name].name for name in self.strategy.members}
        key = content_key(
            REVISION,
            self.strategy,
            members,
            self.repeat,
            self.dataset.key,
            self.settings,
            self.seed,
        )
        safe = "".join(c if c.isalnum() or c in "-." else "_" for c in self.strategy.name)
        return self.folder / f"{safe}-{self.repeat}-{key}.json"


def evaluate(job: EvaluateJob) -> dict[str, Any]:
    """Train and test one classifier, or read the result of doing so.

    Returns:
        ``{"result": RepeatResult as JSON, "work": [[start, end]]}``.
    """
    if job.path.exists():
        value: dict[str, Any] = read_json(job.path)
        return value
    begin = time.time()
    result = downstream.run_repeat(
        job.strategy,
        job.repeat,
        dataset=job.dataset.load(),
        bank=job.bank,
        settings=job.settings,
        seed=job.seed,
    )
    value = {"result": result.to_json(), "work": [[begin, time.time()]]}
    write_json(job.path, value)
    return value
