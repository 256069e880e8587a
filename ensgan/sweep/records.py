"""What files of a sweep's folder hold: members and recorded runs, typed and checked when read.

In memory every path is absolute; on disk it is relative to the sweep's folder, so that a folder
that was copied, renamed or mounted elsewhere never reads its old place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    PlainSerializer,
    SerializationInfo,
    ValidationError,
    ValidationInfo,
)

from ensgan.config.vary import Value
from ensgan.errors import DataError, IntegrityError, problem_of, shown
from ensgan.files import is_whole, read_json, seal, sha256_file, write_json

if TYPE_CHECKING:  # numpy comes late: `ensgan status` reads records too
    from ensgan.types import Dataset

_FOLDER = "folder"
_NAME = re.compile(r"[A-Za-z0-9._+@~-]{1,200}")

Interval: TypeAlias = tuple[float, float]
"""Start and end of work, seconds since the epoch."""


def _below(path: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get(_FOLDER)
    if folder is None:  # between processes of one sweep paths stay absolute
        return path
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"must be a path inside the sweep's folder, not '{path}'")
    return Path(folder) / path


def _relative(path: Path, info: SerializationInfo) -> str:
    folder = (info.context or {}).get(_FOLDER)
    return str(path) if folder is None else path.relative_to(folder).as_posix()


StoredPath = Annotated[Path, AfterValidator(_below), PlainSerializer(_relative)]
"""A path that files hold relative to the sweep's folder."""


def _file_safe(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{name[:60]!r} is no name: it has other signs than letters, digits "
                         "and ._+@~-")  # fmt: skip
    return name


StoredName = Annotated[str, AfterValidator(_file_safe)]
"""Name of a GAN, a configuration or a member, as files are called by it."""


@dataclass(frozen=True)
class DatasetFiles:
    """A data set on shared storage, so that jobs carry paths and not images."""

    name: str
    class_names: tuple[str, ...]
    key: str
    splits: Mapping[str, Path]

    @classmethod
    def write(cls, dataset: Dataset, folder: Path) -> DatasetFiles:
        """Write the splits under the data set's content key; files that are whole are kept."""
        paths = {}
        for name, split in dataset.splits().items():
            paths[name] = folder / f"{dataset.key[:16]}-{name}.npz"
            if not is_whole(paths[name]):
                split.save(paths[name])
                seal(paths[name])
        return cls(dataset.name, dataset.class_names, dataset.key, paths)

    def load(self) -> Dataset:
        """Read the data set back.

        Raises:
            DataError: a file is missing or damaged, or its images are not those of then.
        """
        dataset = self.read()
        self.check(dataset)
        return dataset

    def read(self) -> Dataset:
        """Read the files, whatever they hold now."""
        from ensgan.types import Dataset, Samples

        splits = {name: Samples.load(path) for name, path in self.splits.items()}
        return Dataset(self.name, splits["train"], splits["val"], splits["test"], self.class_names)

    def check(self, dataset: Dataset) -> None:
        """Refuse images that are not those the files were written with; errors as :meth:`load`."""
        if dataset.key != self.key:
            folder = self.splits["train"].parent
            raise DataError(
                f"the images of {self.name} in {folder} are not those the sweep began with: delete "
                "that folder and run `ensgan sweep` again, which writes it anew"
            )


class Record(BaseModel, frozen=True, extra="forbid", strict=True, allow_inf_nan=False):
    """Base of what a sweep's folder holds as JSON: frozen, unknown fields are refused."""

    def tree(self, folder: Path | None = None) -> dict[str, Any]:
        """JSON-able form; paths relative to ``folder``, or as they are."""
        return self.model_dump(mode="json", exclude_none=True, context={_FOLDER: folder})


class Addition(Record):
    """What `ensgan add` brought: a GAN, a variation (setting → value) of every GAN, or both."""

    gan: str | None = None
    vary: dict[str, Value] = Field(default_factory=dict)

    def __str__(self) -> str:
        values = ", ".join(f"{key}={value}" for key, value in self.vary.items())
        return " and ".join(part for part in (self.gan, values) if part)


RecordT = TypeVar("RecordT", bound=Record)


def record_from(model: type[RecordT], value: Any, source: str, folder: Path | None) -> RecordT:
    """Validate a JSON value; its paths become paths below ``folder``.

    Raises:
        DataError: one sentence with the source, the key and the value.
    """
    try:
        # Strict JSON rules tell a list from a text and still take it for a tuple.
        return model.model_validate_json(json.dumps(value), context={_FOLDER: folder})
    except ValidationError as error:
        raise DataError(f"{source} cannot be used: {_problem(error)}") from error


def record_if_whole(model: type[RecordT], path: Path) -> RecordT | None:
    """What a file holds; None where there is none, or a damaged one."""
    with suppress(DataError):
        return record_from(model, read_json(path), str(path), None)
    return None


def _problem(error: ValidationError) -> str:
    """The first problem in words: where, what, and the offending value."""
    item = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in item["loc"]) or "the whole"
    if item["type"] == "extra_forbidden":
        value = shown(item["input"])
        return f"{key} ({value}) is unknown to this version of ensgan; was a newer one here?"
    return problem_of(item, key)


class MemberResult(Record):
    """One finished member.

    Attributes:
        name: ``GAN@STEP``, or the plain name of an external member.
        weights: snapshot file (safetensors), or the sample bank of an external member.
        sha256: of that file.
        samples, features: files of its images and their embeddings.
        density, coverage, intra_d: against the real training split.
        metrics, health: of the snapshot (losses; warnings).
        seconds: by stage.
        work: start and end of the work for it.
        contents: SHA-256 of ``samples`` and ``features``; empty if an early version made them.
        origin: of a member that joined from another sweep: that ``sweep``, its name there
            (``member``) and its ``run``.
    """

    name: StoredName
    weights: StoredPath
    sha256: str
    samples: StoredPath
    features: StoredPath
    density: float
    coverage: float
    intra_d: float
    metrics: dict[str, float]
    health: tuple[str, ...]
    seconds: dict[str, float]
    work: tuple[Interval, ...]
    contents: dict[str, str] = {}
    origin: dict[str, str] | None = None

    @property
    def is_there(self) -> bool:
        """Whether all its files are."""
        return all(path.is_file() for path in (self.weights, self.samples, self.features))

    def unchanged(self, part: str) -> Path:
        """The file of its ``weights``, of its images (``samples``) or of their ``features``.

        Raises:
            IntegrityError: it was replaced, exchanged or cut off since it was made.
        """
        path: Path = getattr(self, part)
        made = self.sha256 if part == "weights" else self.contents.get(part)
        if made is not None and sha256_file(path) != made:
            raise IntegrityError(
                f"{path} has changed since {self.name} was made: delete it and run `ensgan sweep` "
                "again, which makes it anew"
            )
        return path

    def to_json(self) -> dict[str, Any]:
        """JSON-able form with absolute paths, as trials report it."""
        return self.tree()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> MemberResult:
        """Read :meth:`to_json`."""
        return record_from(cls, value, "a member", None)

    @classmethod
    def load(cls, path: Path, folder: Path) -> MemberResult:
        """Read a member's own record, of this version or an earlier one.

        Raises:
            DataError: missing, damaged or foreign.
        """
        return record_from(cls, relative_member(read_json(path)), str(path), folder)

    def save(self, path: Path, folder: Path) -> None:
        """Write the member's own record."""
        write_json(path, self.tree(folder))


class RecordedRuns(Record):
    """What is recorded of one spec in one store.

    Attributes:
        key: of the spec and the store.
        uri: of the store.
        nonce: tells this sweep's runs from those of others.
        runs: run ID by name; empty while the store has not answered the request for one.
        done: items that are recorded.
    """

    key: str = ""
    uri: str = ""
    nonce: str = ""
    runs: dict[str, str] = {}
    done: tuple[str, ...] = ()


class RecordFile(RecordedRuns):
    """``recorded.json``: the latest spec's state, and in ``earlier`` those of previous specs."""

    earlier: tuple[RecordedRuns, ...] = ()

    @classmethod
    def load(cls, path: Path) -> RecordFile:
        """Read the file; an empty one if there is none.

        Raises:
            DataError: it is damaged or foreign.
        """
        return record_from(cls, read_json(path), str(path), None) if path.exists() else cls()

    @property
    def run_ids(self) -> tuple[str, ...]:
        """All runs of this sweep, the latest first."""
        return tuple(id_ for part in (self, *self.earlier) for id_ in part.runs.values() if id_)


def relative_member(value: Any) -> Any:
    """A member as schema 1 had it, its paths made relative; any other value as it is.

    The images were always at ``FOLDER/samples/NAME``, which tells where the folder was then.
    """
    if not isinstance(value, dict) or not isinstance(value.get("samples"), str):
        return value
    samples = PurePosixPath(value["samples"])
    if not samples.is_absolute() or len(samples.parts) < 3:
        return value
    then = samples.parents[1]
    paths = {key: PurePosixPath(str(value.get(key))) for key in ("weights", "samples", "features")}
    if not all(path.is_relative_to(then) for path in paths.values()):
        return value  # validation refuses it next
    return {**value, **{key: str(path.relative_to(then)) for key, path in paths.items()}}
