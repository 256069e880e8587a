"""Which sweeps join a pool (``members: - {sweep: NAME}``), and whether they can be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from ensgan.config import ExternalSpec, SweepSpec
from ensgan.errors import ConfigError, InputError, unknown_name
from ensgan.files import require_whole
from ensgan.sweep.folder import SweepFolder, find_sweep, sweep_folder
from ensgan.sweep.records import MemberResult
from ensgan.text import counted
from ensgan.types import Dataset, PoolScores

SIGN = "+"
"""Between the names of a sweep and its member; a sweep's name cannot contain it."""
LONGEST_NAME = 120


class Source:
    """A finished sweep that joins another.

    Args:
        place: its name in the storage, or its folder.
        storage: of the sweep that it joins.

    Raises:
        InputError: there is none, or it is not finished.
    """

    def __init__(self, place: str, storage: Path) -> None:
        # A sweep of the storage comes before a folder of that name, such as a pulled ensemble.
        here = sweep_folder(storage.resolve(), place)
        is_here = "/" not in place and here.has_begun
        self.folder = here if is_here else find_sweep(place, storage)
        self.place, self.name = place, self.folder.path.name
        self.manifest = self.folder.read()
        if self.manifest.status == "running" or self.manifest.scores is None:
            raise InputError(
                f"sweep '{self.name}' is not finished: run it to its end first, then merge it"
            )

    @property
    def members(self) -> dict[str, MemberResult]:
        """In pool order."""
        made = self.manifest.members
        return {name: made[name] for name in self.manifest.planned_names if name in made}

    @cached_property
    def scores(self) -> PoolScores:
        """Of its pool.

        Raises:
            DataError: the file is damaged.
        """
        assert self.manifest.scores is not None
        return PoolScores.load(require_whole(self.manifest.scores))

    def facts(self) -> dict[str, str]:
        """What must be equal for pools to be merged, in words."""
        spec, data = self.manifest.settings, self.manifest.dataset
        return {
            **_facts(spec, data.name, data.key, data.classes, data.images["train"]),
            "extractor": f"{spec.embed.extractor} ({self.scores.extractor})",
        }


def _facts(
    spec: SweepSpec, data: str, key: str, classes: Sequence[str], training_images: int
) -> dict[str, str]:
    return {
        "data": f"{data} of {spec.dataset.image_size} px (content {key[:12]})",
        "classes": ", ".join(classes),
        "images per member": str(spec.sample.count or training_images),
        "sample.labels": spec.sample.labels,
        "score.k": str(spec.score.k),
        "score.classes": spec.score.classes,
    }


def require_same(
    name: str, facts: Mapping[str, str], other: str, theirs: Mapping[str, str]
) -> None:
    """Refuse to merge what differs.

    Raises:
        ConfigError: with every difference.
    """
    problems = [
        f"{what}: {value} in '{name}', {theirs[what]} in '{other}'"
        for what, value in facts.items()
        if theirs.get(what, value) != value
    ]
    if problems:
        raise ConfigError(
            f"'{other}' cannot be merged with '{name}'",
            [*problems, "scores of the two cannot be compared: make one of them again"],
        )


def merged_spec(
    places: Sequence[str], storage: Path, name: str, warn: Callable[[str], None]
) -> SweepSpec:
    """The sweep that merges others: settings of the first, members of all.

    Args:
        places: names of sweeps in the storage, folders, or run IDs; at least two.
        name: of the sweep.
        warn: told of members that several of them have.

    Raises:
        InputError: one is missing or not finished, fewer than two, or the same twice.
        ConfigError: they cannot be compared; with every difference.
    """
    sources = [Source(place, storage) for place in places]
    first, *others = sources
    if len({source.folder.path for source in sources}) < max(2, len(sources)):
        raise InputError("merge takes two sweeps or more, each of them once")
    for other in others:
        require_same(first.name, first.facts(), other.name, other.facts())
    members, used, owners = [], set[str](), dict[str, str]()
    for source in sources:
        hashes = {member.sha256 for member in source.members.values()}
        if twice := [owner for sha256, owner in owners.items() if sha256 in hashes]:
            warn(
                f"'{twice[0]}' and '{source.name}' have {counted(len(twice), 'equal member')}: "
                "a copy adds nothing to an ensemble, but counts twice in it"
            )
        owners |= dict.fromkeys(hashes - set(owners), source.name)
        prefix = source.name
        while prefix in used:
            prefix += "-2"
        used.add(prefix)
        is_here = source.folder.path == sweep_folder(storage.resolve(), source.name).path
        place = source.name if is_here else str(source.folder.path)
        members.append(ExternalSpec(sweep=place, prefix=None if prefix == source.name else prefix))
    spec = first.manifest.settings
    plugins = [plugin for source in sources for plugin in source.manifest.settings.train.plugins]
    training = type(spec.train)(gans=[], plugins=list(dict.fromkeys(plugins)))
    update = {"name": name, "train": training, "members": members}
    return spec.model_copy(update=update)


def join_sweeps(spec: SweepSpec, dataset: Dataset, folder: SweepFolder) -> SweepSpec:
    """Name every member of the sweeps that join, before any work is done.

    Raises:
        ConfigError: as :func:`expand`, a sweep that cannot be compared with this one, or a member
            that it does not have.
    """
    spec = expand(spec, folder)
    facts = _facts(spec, dataset.name, dataset.key, dataset.class_names, len(dataset.train))
    ours = folder.read().members if folder.has_begun else {}
    problems = []
    for source in sources_of(spec, folder):
        require_same(spec.name, facts, source.name, source.facts())
        problems += [
            f"members: {unknown_name(f'member of {source.name}', name, tuple(source.members))}"
            for member in spec.members
            if member.sweep == source.place and member.name not in ours
            if (name := member.name.partition(SIGN)[2]) not in source.members
        ]
    if problems:
        raise ConfigError(f"sweep '{spec.name}'", problems)
    return spec


def expand(spec: SweepSpec, folder: SweepFolder) -> SweepSpec:
    """Replace sweeps that join as a whole by one entry per member; named members stay.

    Raises:
        ConfigError: a sweep that is missing or not finished, or one that would join itself.
    """
    if all(member.name for member in spec.members):
        return spec
    members, problems = [], []
    for member in spec.members:
        try:
            members += [member] if member.name else _named(member, folder)
        except InputError as error:
            problems.append(f"members: {error}")
    names = [member.name for member in members]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        problems.append(f"members: {', '.join(repeated)} twice: give one sweep a prefix")
    problems += [
        f"members: the name {name} is longer than {LONGEST_NAME} signs: give its sweep a prefix"
        for name in names
        if len(name) > LONGEST_NAME
    ]
    if problems:
        raise ConfigError(f"sweep '{spec.name}'", problems)
    return spec.model_copy(update={"members": members})


def _named(member: ExternalSpec, folder: SweepFolder) -> list[ExternalSpec]:
    """One entry per member of a whole sweep."""
    try:
        source = Source(str(member.sweep), folder.path.parents[1])
    except InputError:
        if known := _known_from(member, folder):
            return known
        raise
    if source.folder.path == folder.path:
        raise InputError(f"sweep '{source.name}' cannot join itself: name another sweep file")
    notes = {one.name: one for one in source.manifest.settings.members}
    return [
        member.model_copy(
            update={
                "name": f"{member.prefix or source.name}{SIGN}{name}",
                "licence": member.licence or (notes[name].licence if name in notes else None),
                "source": member.source or (notes[name].source if name in notes else None),
            }
        )
        for name in source.members
    ]


def _known_from(member: ExternalSpec, folder: SweepFolder) -> list[ExternalSpec]:
    """Members that came from a sweep which is no longer where the file says."""
    if not folder.has_begun:
        return []
    prefix = f"{member.prefix or Path(str(member.sweep)).name}{SIGN}"
    known = folder.read().settings.members
    return [one for one in known if one.sweep is not None and one.name.startswith(prefix)]


def sources_of(spec: SweepSpec, folder: SweepFolder) -> Iterator[Source]:
    """The sweeps that join, if they still exist; a merged sweep no longer needs them."""
    places = dict.fromkeys(member.sweep for member in spec.members if member.sweep is not None)
    for place in places:
        with suppress(InputError):
            yield Source(place, folder.path.parents[1])
