"""The manifest of a sweep: what it is and what it has made; files of older versions are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator

from ensgan.config import SweepSpec, parse_spec
from ensgan.config.vary import Value
from ensgan.errors import ConfigError, DataError
from ensgan.files import read_json, write_json
from ensgan.inputs import explained
from ensgan.sweep import records
from ensgan.types import EARLIER_FORM

if TYPE_CHECKING:
    from ensgan.types import Front, FrontPoint, Selection

SCHEMA = 2
"""Of the manifest's file. Schema 1 had absolute paths and called external members ``outside``."""

EARLIER_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "search": {"objectives": EARLIER_FORM},
    "select": {"rule": "knee"},
    "evaluate": {"sampling": "bank"},
}
"""Defaults of earlier versions that have changed since, by section of the spec."""


class DatasetRecord(records.Record):
    """The real data: ``key`` is of all splits' content, ``images`` counts them by split."""

    name: str
    key: str
    source: str
    classes: tuple[str, ...]
    images: dict[str, int]


class Losses(records.Record):
    """How often a GAN's trial was started again because its node or its process was gone."""

    node: int = 0
    process: int = 0


class LabelRecord(records.Record):
    """Label consistency: the share of images to which a classifier gives the class asked for.

    ``real`` is of the real validation split, ``members`` by name; see
    :class:`ensgan.downstream.LabelConsistency`.
    """

    real: float
    members: dict[str, float]


class SelectedRecord(records.Record):
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

    def point(self, front: Front) -> FrontPoint:
        """The selected ensemble: a point of the front, or beside it (rule ``validated``)."""
        for point in front:
            if point.members == self.members:
                return point
        from ensgan.types import FrontPoint  # late, for it needs numpy

        keys = [axis.key for axis in front.axes[:2]]
        return FrontPoint.from_json(self.tree(), (keys[0], keys[1]))

    @property
    def first_two(self) -> tuple[float, float]:
        """The first two objectives, whatever they are."""
        values = self.objectives()
        return (
            values.get("intra_d", values.get("first", float("nan"))),
            values.get("inter_d", values.get("second", float("nan"))),
        )

    def objectives(self) -> dict[str, float]:
        """The known values of the point."""
        names = ("intra_d", "inter_d", "first", "second", "density", "coverage")
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def of(cls, selected: Selection) -> SelectedRecord:
        """The record of a selection."""
        return records.record_from(cls, selected.to_json(), "the selection", None)


class Earlier(records.Record):
    """The pool that this one grew from; the scores of its members remain valid.

    Attributes:
        run: ID of its run; empty if it was not recorded.
        scores: of its members; None if it was never scored.
        features: by member.
        added, removed: members by which the pools differ.
    """

    run: str = ""
    scores: records.StoredPath | None = None
    features: dict[str, records.StoredPath] = Field(default_factory=dict)
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """What cards, pages and tags say about it; nothing if no member was added."""
        if not self.added:
            return {}
        run = {"run": self.run} if self.run else {}
        return {**run, "members": len(self.features), "added": list(self.added)}


class Manifest(records.Record):
    """The authoritative record of a sweep; the tracking store is a view of it.

    Attributes:
        spec: the sweep's settings as they were written when it began; :attr:`settings` reads them.
        status: ``running`` until all stages are done; ``failed`` when some GAN failed.
        started, finished: seconds since the epoch.
        planned: members in all.
        gans, external: names, in pool order; a GAN's with its variation.
        variations: by GAN, the values of the settings that the sweep varies.
        steps: to train, by GAN.
        versions: of the packages, and the machine.
        members: finished ones by name, in the order they came.
        failed: GANs that failed, with the reason.
        losses: by GAN.
        stages: seconds by stage, over all sessions, with ``orchestration`` and ``total``.
        front, trials, scores, validation, downstream, ensemble, privacy: where results lie;
            ``validation`` has the shortlist and the finalists of the rule ``validated``.
        selected: G*.
        labels: how well members' images fit their labels; None where that was not measured.
        earlier: the pool of the run before, if this one goes on from it.
        additions: what `ensgan add` brought while it ran, whatever its file says.
    """

    spec: dict[str, Any]
    status: Literal["running", "finished", "failed"] = "running"
    started: float
    finished: float | None = None
    planned: int
    gans: tuple[records.StoredName, ...]
    external: tuple[records.StoredName, ...] = ()
    variations: dict[str, dict[str, Value]] = Field(default_factory=dict)
    steps: dict[str, Annotated[int, Field(ge=1)]]
    dataset: DatasetRecord
    versions: dict[str, str] = Field(default_factory=dict)
    members: dict[str, records.MemberResult]
    failed: dict[str, str] = Field(default_factory=dict)
    losses: dict[str, Losses] = Field(default_factory=dict)
    stages: dict[str, float] = Field(default_factory=dict)
    front: records.StoredPath | None = None
    trials: records.StoredPath | None = None
    scores: records.StoredPath | None = None
    validation: records.StoredPath | None = None
    downstream: records.StoredPath | None = None
    ensemble: records.StoredPath | None = None
    privacy: records.StoredPath | None = None
    selected: SelectedRecord | None = None
    labels: LabelRecord | None = None
    earlier: Earlier | None = None
    additions: tuple[records.Addition, ...] = ()

    @field_validator("members")
    @classmethod
    def _under_its_name(
        cls, members: dict[str, records.MemberResult]
    ) -> dict[str, records.MemberResult]:
        for name, member in members.items():
            if member.name != name:
                raise ValueError(f"{name} holds member {member.name}: the two were exchanged")
        return members

    @property
    def settings(self) -> SweepSpec:
        """The spec with defaults for settings that came later: today's, or those of then.

        Raises:
            ConfigError: the recorded spec is not a valid one.
        """
        tree = known_settings(self.spec, SweepSpec)
        for section, values in EARLIER_DEFAULTS.items():
            named = tree.get(section, {}) if isinstance(tree, Mapping) else None
            if isinstance(named, Mapping):
                tree = {**tree, section: {**values, **named}}
        return parse_spec(tree, source="the sweep's spec")

    @property
    def label_shares(self) -> Mapping[str, float]:
        """Label consistency by member, empty where it was not measured."""
        return {} if self.labels is None else self.labels.members

    @property
    def planned_names(self) -> tuple[str, ...]:
        """Names of all members, in pool order."""
        snapshots = self.settings.train.snapshots
        trained = [
            f"{gan}@{self.steps[gan] * (i + 1) // snapshots}"
            for gan in self.gans
            for i in range(snapshots)
        ]
        return (*trained, *self.external)

    @property
    def chosen(self) -> tuple[str, ...]:
        """Members of G*; none before it is chosen, or while one of them is being made again."""
        names = () if self.selected is None else self.selected.members
        return names if set(names) <= self.members.keys() else ()

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
        schema = value.get("schema") if isinstance(value, dict) else type(value).__name__
        if not isinstance(schema, int) or schema not in _MIGRATIONS:
            raise DataError(
                f"{source} is no manifest of schema 1 to {SCHEMA} (its schema is {schema!r}): use "
                "another --storage, or the version of ensgan that wrote it"
            )
        with explained(f"{source} cannot be used, it is damaged"):
            tree = _MIGRATIONS[value["schema"]](dict(value))
        del tree["schema"]
        manifest = records.record_from(cls, tree, source, folder)
        if stepless := [gan for gan in manifest.gans if gan not in manifest.steps]:
            raise DataError(f"{source} cannot be used: steps lacks {', '.join(stepless)[:80]}")
        try:
            manifest.settings  # noqa: B018  validated here, where the error can name the file
        except ConfigError as error:
            raise DataError(f"{source} cannot be used: spec.{error.problems[0]}") from error
        return manifest


def known_settings(tree: Any, model: type[BaseModel]) -> Any:
    """A spec's tree without settings that this version no longer has."""
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
    members = tree.get("members")
    if isinstance(members, dict):
        tree["members"] = {name: records.relative_member(value) for name, value in members.items()}
    return tree


_MIGRATIONS: Mapping[Any, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: _from_schema_1,
    SCHEMA: lambda tree: tree,
}
