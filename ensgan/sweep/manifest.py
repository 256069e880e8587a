"""The manifest of a sweep: what it is and what it has made, typed, with paths inside its folder.

In memory every path is absolute; on disk it is relative to the sweep's folder, so that a folder
that was copied, renamed or mounted elsewhere never reads its old place.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    PlainSerializer,
    SerializationInfo,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from ensgan.config import SweepSpec, parse_spec
from ensgan.errors import ConfigError, DataError
from ensgan.files import read_json, write_json
from ensgan.types import Selection

SCHEMA = 2
"""Of the manifest's file. Schema 1 had absolute paths and called external members ``outside``."""
_FOLDER = "folder"
_SHOWN = 60
"""Characters of an offending value that a message repeats."""

Interval: TypeAlias = tuple[float, float]
"""Start and end of work, seconds since the epoch."""


def _below(path: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get(_FOLDER)
    if folder is None:  # between processes of one sweep paths stay as they are
        return path
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"must be a path inside the sweep's folder, not '{path}'")
    return Path(folder) / path


def _relative(path: Path, info: SerializationInfo) -> str:
    folder = (info.context or {}).get(_FOLDER)
    return str(path) if folder is None else path.relative_to(folder).as_posix()


StoredPath = Annotated[Path, AfterValidator(_below), PlainSerializer(_relative)]
"""A path that files hold relative to the sweep's folder."""


class Record(BaseModel, frozen=True, extra="forbid", strict=True, allow_inf_nan=False):
    """Something that a file of a sweep's folder holds: frozen, and nothing more than its fields."""

    def tree(self, folder: Path | None = None) -> dict[str, Any]:
        """JSON-able form; paths relative to ``folder``, or as they are."""
        return self.model_dump(mode="json", exclude_none=True, context={_FOLDER: folder})


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


def _problem(error: ValidationError) -> str:
    """The first problem in words: where, what, and the offending value."""
    item = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in item["loc"]) or "the whole"
    value = repr(item["input"])
    value = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"
    if item["type"] == "missing":
        return f"{key} is missing"
    if item["type"] == "extra_forbidden":
        return f"{key} ({value}) is unknown to this version of ensgan; was a newer one here?"
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "value_error":
        return f"{key}: {message}"
    return f"{key}: {message[0].lower()}{message[1:]}, not {value}"


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
        work: when the work was done.
        contents: SHA-256 of ``samples`` and ``features``; empty where an early version made them.
    """

    name: str
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

    @property
    def is_there(self) -> bool:
        """Whether all its files are."""
        return all(path.is_file() for path in (self.weights, self.samples, self.features))

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
        return record_from(cls, _relative_member(read_json(path)), str(path), folder)

    def save(self, path: Path, folder: Path) -> None:
        """Write the member's own record."""
        write_json(path, self.tree(folder))


class DatasetRecord(Record):
    """The real data: ``key`` is of all splits' content, ``images`` counts them by split."""

    name: str
    key: str
    source: str
    classes: tuple[str, ...]
    images: dict[str, int]


class Losses(Record):
    """How often a GAN's trial was started again because its node or its process was gone."""

    node: int = 0
    process: int = 0


class SelectedRecord(Record):
    """G*: the rule that chose it, why, and the front point as front files spell it.

    The first two objectives are ``intra_d`` and ``inter_d``, or ``first`` and ``second`` where
    they are others.
    """

    rule: str
    reason: str
    members: tuple[str, ...]
    intra_d: float | None = None
    inter_d: float | None = None
    first: float | None = None
    second: float | None = None
    density: float | None = None
    coverage: float | None = None
    weights: tuple[float, ...] | None = None
    measures: dict[str, float] | None = None

    @property
    def first_two(self) -> tuple[float, float]:
        """The first two objectives, whatever they are."""
        values = self.objectives()
        return (
            values.get("intra_d", values.get("first", float("nan"))),
            values.get("inter_d", values.get("second", float("nan"))),
        )

    def objectives(self) -> dict[str, float]:
        """The numbers of the point that are known."""
        names = ("intra_d", "inter_d", "first", "second", "density", "coverage")
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def of(cls, selected: Selection) -> SelectedRecord:
        """The record of a selection."""
        value = {"rule": selected.rule, "reason": selected.reason, **selected.point.to_json()}
        return record_from(cls, value, "the selection", None)


class Manifest(Record):
    """The truth of a sweep; the tracking store is a view of it.

    Attributes:
        spec: the sweep's settings as they were written when it began; :attr:`settings` reads them.
        status: ``running`` until all stages are through; ``failed`` when some GAN failed.
        started, finished: seconds since the epoch.
        planned: members in all.
        gans, external: names, in pool order.
        steps: to train, by GAN.
        versions: of the packages, and the machine.
        members: finished ones by name, in the order they came.
        failed: GANs that failed, with the reason.
        losses: by GAN.
        stages: seconds by stage, over all sessions, with ``orchestration`` and ``total``.
        front, trials, scores, downstream, ensemble, privacy: where results lie.
        selected: G*.
    """

    spec: dict[str, Any]
    status: Literal["running", "finished", "failed"] = "running"
    started: float
    finished: float | None = None
    planned: int
    gans: tuple[str, ...]
    external: tuple[str, ...] = ()
    steps: dict[str, int]
    dataset: DatasetRecord
    versions: dict[str, str] = {}
    members: dict[str, MemberResult] = {}
    failed: dict[str, str] = {}
    losses: dict[str, Losses] = {}
    stages: dict[str, float] = {}
    front: StoredPath | None = None
    trials: StoredPath | None = None
    scores: StoredPath | None = None
    downstream: StoredPath | None = None
    ensemble: StoredPath | None = None
    privacy: StoredPath | None = None
    selected: SelectedRecord | None = None

    @field_validator("members")
    @classmethod
    def _under_its_name(cls, members: dict[str, MemberResult]) -> dict[str, MemberResult]:
        for name, member in members.items():
            if member.name != name:
                raise ValueError(f"{name} holds member {member.name}: the two were exchanged")
        return members

    @property
    def settings(self) -> SweepSpec:
        """The spec with today's defaults for settings that came later.

        Raises:
            ConfigError: it is none.
        """
        return parse_spec(known_settings(self.spec, SweepSpec), source="the sweep's spec")

    @property
    def chosen(self) -> tuple[str, ...]:
        """Members of G*, none before it is chosen."""
        return () if self.selected is None else self.selected.members

    def save(self, path: Path) -> None:
        """Replace the file at ``path``, in whose folder all results lie."""
        write_json(path, {"schema": SCHEMA, **self.tree(path.parent)})

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Read a manifest of this or an earlier version.

        Raises:
            DataError: missing, damaged, foreign, or of a newer version.
        """
        return cls.from_json(read_json(path), str(path), path.parent)

    @classmethod
    def from_json(cls, value: Any, source: str, folder: Path) -> Manifest:
        """Read the content of a manifest whose results lie in ``folder``; errors as :meth:`load`.

        Args:
            source: what to call it in messages.
        """
        found = value.get("schema") if isinstance(value, dict) else type(value).__name__
        if not isinstance(found, int) or found not in _MIGRATIONS:
            raise DataError(
                f"{source} is no manifest of schema 1 to {SCHEMA} (its schema is {found!r}): use "
                "another --storage, or the version of ensgan that wrote it"
            )
        try:
            tree = _MIGRATIONS[value["schema"]](dict(value))
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise DataError(f"{source} cannot be used: it is damaged ({error!r})") from error
        del tree["schema"]
        manifest = record_from(cls, tree, source, folder)
        try:
            manifest.settings  # noqa: B018  read now: later it would be nobody's mistake
        except ConfigError as error:
            raise DataError(f"{source} cannot be used: spec.{error.problems[0]}") from error
        return manifest


class RecordedRuns(Record):
    """What is recorded of one spec in one store.

    Attributes:
        key: of the spec and the store.
        uri: of the store.
        nonce: tells this sweep's runs from those of others.
        runs: run ID by name; empty while the store was asked for one and has not answered.
        done: items that are recorded.
    """

    key: str = ""
    uri: str = ""
    nonce: str = ""
    runs: dict[str, str] = {}
    done: tuple[str, ...] = ()


class RecordFile(RecordedRuns):
    """``recorded.json``: the latest spec's state, and ``earlier`` those of the folder's others."""

    earlier: tuple[RecordedRuns, ...] = ()

    @classmethod
    def load(cls, path: Path) -> RecordFile:
        """Read the file; one without anything where there is none.

        Raises:
            DataError: it is damaged or foreign.
        """
        return record_from(cls, read_json(path), str(path), None) if path.exists() else cls()

    @property
    def run_ids(self) -> tuple[str, ...]:
        """Of all runs there ever were, the latest first."""
        return tuple(id_ for part in (self, *self.earlier) for id_ in part.runs.values() if id_)


def known_settings(tree: Any, model: type[BaseModel]) -> Any:
    """A spec's tree without settings that earlier versions had and this one has not."""
    if not isinstance(tree, Mapping):
        return tree
    fields = model.model_fields
    return {
        key: known_settings(value, section)
        if isinstance(section := fields[key].annotation, type) and issubclass(section, BaseModel)
        else value
        for key, value in tree.items()
        if key in fields
    }


def _from_schema_1(tree: dict[str, Any]) -> dict[str, Any]:
    """Absolute paths become relative, ``outside`` becomes ``external``."""
    tree["schema"] = SCHEMA
    if "outside" in tree:
        tree["external"] = tree.pop("outside")
    for name in ("front", "trials", "scores", "downstream", "ensemble", "privacy"):
        if name in tree:
            # All of these lie one folder deep: search/front-….json.
            tree[name] = str(PurePosixPath(*PurePosixPath(tree[name]).parts[-2:]))
    members = tree.get("members", {})
    if isinstance(members, dict):
        tree["members"] = {name: _relative_member(value) for name, value in members.items()}
    return tree


_MIGRATIONS: Mapping[Any, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: _from_schema_1,
    SCHEMA: lambda tree: tree,
}


def _relative_member(value: Any) -> Any:
    """A member as schema 1 had it, its paths made relative; any other value as it is.

    The images always were at ``FOLDER/samples/NAME``: that is how the folder of then is known.
    """
    if not isinstance(value, dict) or not isinstance(value.get("samples"), str):
        return value
    samples = PurePosixPath(value["samples"])
    if not samples.is_absolute() or len(samples.parts) < 3:
        return value
    then = samples.parents[1]
    paths = {key: value[key] for key in ("weights", "samples", "features") if key in value}
    return {
        **value,
        **{key: str(PurePosixPath(path).relative_to(then)) for key, path in paths.items()},
    }
