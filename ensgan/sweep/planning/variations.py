"""Configurations of a sweep: every GAN in every variation of ``train.vary``.

A configuration is a row with a name of its own: ``SNGAN~lr0.5-s1`` is SNGAN with half its learning
rates and seed 1. A value that equals the GAN's own is left out of the name. So a GAN that nothing
changes keeps its plain name, trains as without variations, and is found again when variations are
added later. Values of parts that a GAN does not have are dropped for it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import product
from typing import Any, TypeAlias

import numpy as np

from ensgan import train, zoo
from ensgan.config import SweepSpec
from ensgan.config.vary import SHORT, WHOLE, Tunable, Value, is_draws, searched
from ensgan.errors import InputError
from ensgan.files import content_key
from ensgan.sweep.member_job import purpose_seed
from ensgan.types import row_of

MOST = 1_000
"""Configurations that need no ``--yes-many``."""
MOST_EVER = 100_000
LONGEST_NAME = 80
_DIGITS = 4  # of numbers that are drawn, so that names can show them whole

Values: TypeAlias = Mapping[str, Value]


@dataclass(frozen=True)
class Configuration:
    """A GAN in one variation.

    Attributes:
        row: at its final width, under the configuration's name.
        settings: of its training.
        values: of all settings that the sweep varies and the GAN has, its own ones included;
            empty in a sweep without variations.
    """

    row: zoo.GANSpec
    settings: train.TrainSettings
    values: Values

    @property
    def name(self) -> str:
        """``GAN`` or ``GAN~VARIATION``: the key of its trial everywhere."""
        return self.row.name

    @property
    def work(self) -> tuple[zoo.GANSpec, train.TrainSettings]:
        """What a step's work depends on: neither name nor seed nor learning rate."""
        return replace(self.row, name="any"), replace(self.settings, seed=0, learning_rate=1.0)


class _Gan:
    """One GAN of a sweep, and the settings of it that can be varied."""

    def __init__(self, spec: SweepSpec, name: str) -> None:
        self.name, self._seed = name, partial(purpose_seed, spec.seed)
        self.row = zoo.get(name)
        values = spec.train.model_dump(exclude={"gans", "plugins", "overrides", "vary"})
        override = spec.train.overrides.get(name)
        if override is not None:
            values |= override.model_dump(exclude_none=True)
        self.base: dict[str, Any] = {**values, "seed": 0}

    @cached_property
    def own(self) -> dict[str, Any]:
        """The GAN's value of every setting that it has; None for one without a default."""
        optimiser = self.row.optimiser
        settings = {key: self.base[key] for key in Tunable.model_fields}
        settings["batch"] = settings["batch"] or optimiser.batch
        settings["d_updates"] = settings["d_updates"] or optimiser.d_updates_per_step
        settings["ema"] = settings["ema"] or "fitted"
        if not isinstance(self.row.ema, zoo.FixedAverage):
            for key in ("ema", "ema_start", "ema_decay"):
                del settings[key]
        if isinstance(self.row.ema, zoo.NoAverage):
            del settings["weights"]
        return {**settings, **self.row.settings()}

    def converted(self, key: str, value: Any) -> Value:
        """A value as its field stores it; InputError for one that the field cannot have."""
        if "." in key:
            return self.row.converted(key, value)
        # The spec has checked it.
        return value if key in WHOLE or not isinstance(value, int) else float(value)

    def configuration(self, values: Values, label: str | None) -> Configuration:
        """The GAN with ``values`` of settings that it has; InputError if they do not fit."""
        # Unchanged values are left out, so that names and rows equal those of a plain training.
        changes = {key: value for key, value in values.items() if not self._is_own(key, value)}
        base, row = dict(self.base), self.row
        for key, value in changes.items():
            if "." in key:
                row = row.changed(key, value)
            else:
                base[key] = value
        row = row.scaled(base.pop("width"))
        if changes:
            row = replace(row, name=f"{self.name}~{label or _label(changes, self.name)}")
        number = base.pop("seed")
        seed = self._seed("train", self.name, *([] if number == 0 else [str(number)]))
        settings = train.TrainSettings(**base, seed=seed)
        return Configuration(row, settings, values)

    def _is_own(self, key: str, value: Value) -> bool:
        if "." in key:
            return self.row.changed(key, value) == self.row
        return bool(self.own[key] == value)


def configurations(
    spec: SweepSpec, *, many: bool = False, drawn: Mapping[str, Values] | None = None
) -> tuple[tuple[Configuration, ...], list[str]]:
    """Every GAN in every variation, in the order of the spec, and every problem on the way.

    Args:
        spec: the validated spec.
        many: allow more than :data:`MOST`.
        drawn: of a search, values by configuration as a manifest has them; without them its
            configurations are quasi-random.
    """
    names = zoo.names() if spec.train.gans == "all" else tuple(spec.train.gans)
    gans = [_Gan(spec, name) for name in names]
    tree = spec.train.vary or {}  # an empty grid has one combination
    made: list[Configuration] = []
    problems: list[str] = []
    keys = tuple(dict.fromkeys(_keys(tree)))
    problems += _foreign(keys, gans, spec)
    count = sum(_count(tree, gan) for gan in gans)
    if count > (MOST_EVER if many else MOST):
        remedy = f"at most {MOST_EVER:,} are possible" if many else "add --yes-many if you mean it"
        return (), [*problems, f"train.vary: makes {count:,} configurations: {remedy}"]
    known = drawn if searched(tree) else None
    draws: Sequence[Values] = []
    if is_draws(tree) and known is None:
        draws = _draw(tree, gans, spec, problems)
    for gan in gans:
        if known is not None:
            draws = [known[name] for name in known if row_of(name) == gan.name]
        combinations = _combinations(tree, gan, draws)
        made += _of_gan(gan, combinations, keys, problems, is_drawn=is_draws(tree))
    return tuple(made), list(dict.fromkeys(problems))


_Combination: TypeAlias = tuple[str | None, Mapping[str, Any]]
"""A variant's name, None where it has none, and its values."""


def _keys(tree: Any) -> Iterator[str]:
    """The settings that are varied."""
    for part in tree if isinstance(tree, list) else [tree["from"] if is_draws(tree) else tree]:
        yield from (key for key in part if key != "name" or not isinstance(tree, list))


def _foreign(keys: Iterable[str], gans: Sequence[_Gan], spec: SweepSpec) -> list[str]:
    """Settings that no GAN of the sweep has."""
    problems = []
    for key in sorted(set(keys).difference(*(gan.own for gan in gans))):
        have = [name for name in zoo.names() if key in _Gan(spec, name).own][:3]
        remedy = "leave it out" + (f", or add {' or '.join(have)}" if have else "")
        problems.append(f"train.vary: no GAN of the sweep has {key}: {remedy}")
    return problems


def _count(tree: Any, gan: _Gan) -> int:
    """Configurations of a GAN, at most."""
    if isinstance(tree, list):
        return len(tree)
    if is_draws(tree):
        return int(tree["sample"])
    return math.prod(len(values) for key, values in tree.items() if key in gan.own)


def _combinations(tree: Any, gan: _Gan, draws: Sequence[Values]) -> Iterator[_Combination]:
    """Combinations of values; those of a grid are of the settings that the GAN has."""
    if isinstance(tree, list):
        for variant in tree:
            yield variant.get("name"), {k: v for k, v in variant.items() if k != "name"}
    elif is_draws(tree):
        yield from ((None, values) for values in draws)
    else:
        has = [key for key in tree if key in gan.own]
        for values in product(*(tree[key] for key in has)):
            yield None, dict(zip(has, values, strict=True))


def _of_gan(
    gan: _Gan,
    combinations: Iterable[_Combination],
    keys: Sequence[str],
    problems: list[str],
    *,
    is_drawn: bool = False,
) -> list[Configuration]:
    """All configurations of a GAN; of those that dropped or drawn values make equal, one."""
    converted: dict[tuple[str, Any], Value] = {}
    defaults = {key: gan.own[key] for key in keys if gan.own.get(key) is not None}
    made_so_far: dict[tuple[zoo.GANSpec, train.TrainSettings], Configuration] = {}
    partial: set[str] = set()
    for label, combination in combinations:
        has = [key for key in combination if key in gan.own]
        try:
            values = {}
            for key in has:
                pair = key, repr(combination[key])
                if pair not in converted:
                    converted[pair] = gan.converted(key, combination[key])
                values[key] = converted[pair]
            made = gan.configuration(values, label)
        except InputError as error:
            where = "train.vary: " if combination else "train."
            problems.append(f"{where}{gan.name}: {error}")
            continue
        made = replace(made, values={**defaults, **values})
        same = made_so_far.setdefault((replace(made.row, name=gan.name), made.settings), made)
        if len(has) < len(combination):
            partial.add(same.name)
        # Two that the file spells out and that are equal: one would be trained in vain.
        elif same is not made and same.name not in partial and not is_drawn:
            twin = label or _label(values, "")
            problems.append(
                f"train.vary: {same.name} and {twin} train {gan.name} in the same way: leave one "
                "out"
            )
    return list(made_so_far.values())


def _label(changes: Mapping[str, Any], gan: str) -> str:
    """Name of a variation: ``lr0.5-s1``; a long one is cut and ends in a hash of its values."""

    def order(key: str) -> tuple[bool, bool, int, str]:
        return key == "seed", "." in key, [*SHORT, key].index(key), key

    parts = [f"{SHORT.get(key, key)}{_spelled(changes[key])}" for key in sorted(changes, key=order)]
    label = "-".join(parts)
    if len(gan) + 1 + len(label) <= LONGEST_NAME:
        return label
    key = content_key(dict(changes))[:8]
    return f"{label[: max(8, LONGEST_NAME - len(gan) - 10)].rstrip('-.')}-{key}"


def _spelled(value: Any) -> str:
    """A value as it may stand in a file's name."""
    if isinstance(value, tuple):
        return "_".join(map(_spelled, value))
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if type(value) is int:
        return str(value)
    return f"_{re.sub(r'[^A-Za-z0-9.+]', '_', str(value))}".lower()


def _draw(
    tree: Mapping[str, Any], gans: Sequence[_Gan], spec: SweepSpec, problems: list[str]
) -> list[dict[str, Any]]:
    """Different draws from ranges and lists; a larger sample begins with the same draws.

    Args:
        tree: ``sample``, ``from`` and ``method`` as the spec has checked them.

    Returns:
        ``sample`` of them, or as many as 20 times as many draws have found.
    """
    from scipy.stats import qmc

    drawn = tree["from"]
    # A value of every setting, which tells whole numbers from others.
    example = {key: value for gan in reversed(gans) for key, value in gan.own.items()}
    random = np.random.default_rng(purpose_seed(spec.seed, "vary"))
    halton = qmc.Halton(len(drawn), scramble=True, seed=random)
    different: dict[str, dict[str, Any]] = {}
    for _ in range(20 * tree["sample"]):
        points = random.random(len(drawn)) if tree.get("method") == "random" else halton.random()[0]
        values = settled(
            {
                key: _value_at(float(point), of, is_whole(key, example))
                for point, (key, of) in zip(points, drawn.items(), strict=True)
            },
            drawn,
            spec.train.snapshots,
        )
        different.setdefault(repr(values), values)
        if len(different) == tree["sample"]:
            break
    else:
        problems.append(
            f"train.vary.sample: {tree['sample']} draws, and what they are drawn from has only "
            f"{len(different)} different configurations: write a grid of lists instead"
        )
    return list(different.values())


def is_whole(key: str, own: Mapping[str, Any]) -> bool:
    """Whether a setting is a whole number."""
    return key in WHOLE or isinstance(own.get(key), int)


def settled(values: Mapping[str, Any], drawn: Mapping[str, Any], multiple: int) -> dict[str, Any]:
    """Drawn values rounded to the digits that names show, and steps to whole snapshots."""
    rounded = dict(values)
    for key, of in drawn.items():
        if isinstance(of, dict) and isinstance(rounded.get(key), float):
            low, high = next(iter(of.values()))
            shown = float(f"{rounded[key]:.{_DIGITS}g}")
            rounded[key] = min(float(high), max(float(low), shown))
    if isinstance(drawn.get("steps"), dict) and "steps" in rounded:
        rounded["steps"] = max(1, round(rounded["steps"] / multiple)) * multiple
    return rounded


def _value_at(point: float, of: Any, whole: bool) -> Any:
    """What a point of [0, 1) means in a list or a range."""
    if isinstance(of, list):
        return of[int(point * len(of))]
    ((scale, (low, high)),) = of.items()
    if scale == "log":
        value = low * (high / low) ** point
        return min(high, round(value)) if whole else value
    if whole:
        return int(low + point * (high - low + 1))
    return float(low + point * (high - low))
