"""Settings that a GAN may have for itself, and how ``train.vary`` writes variations of them.

Three forms: a grid (setting → values), draws (``sample`` of what ``from`` allows) and a list of
variants. What is checked here needs neither rows nor data;
:mod:`ensgan.sweep.planning.variations` makes configurations of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypeGuard

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ensgan.errors import InputError, problem_of, shown, unknown_name

Value: TypeAlias = bool | int | float | str | tuple[float, ...]
"""Of a varied setting."""
PrecisionName: TypeAlias = Literal["auto", "float32", "tf32", "bfloat16"]

MOST_DRAWS = 100_000
WHOLE = ("seed", "steps", "batch", "d_updates", "ema_start")
"""Settings of training that are whole numbers."""
SHORT = {
    "learning_rate": "lr",
    "width": "w",
    "batch": "b",
    "d_updates": "d",
    "steps": "t",
    "seed": "s",
}
"""What settings are called in the names of configurations, in their order there."""
METHODS = ("quasi-random", "random")
RANGES = ("uniform", "log")
SEARCHES = ("tpe", "nsga2", "gp")
"""Optuna's samplers that draw what comes next by what came out."""
OBJECTIVES = ("intra-d", "hypervolume")
"""What a search wants configurations to be good for: by themselves, or for the pool's front."""
_DRAW_KEYS = ("sample", "from", "method", "search", "objective")
_VARIANT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,39}")

FIXED: Mapping[str, str] = {
    "gans": "every GAN of train.gans is trained in every variation",
    "plugins": "they register GANs for all variations",
    "overrides": "they hold for all variations of a GAN",
    "vary": "variations do not nest",
    "snapshots": "every training of a sweep gives as many members",
    "resume_every": "it changes no result",
    "compile": "it changes no result, only the speed",
}
"""Settings of ``train`` that cannot be varied, and why."""


class Strict(BaseModel):
    """A section that takes what it knows and nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class GanOverrides(Strict):
    """Settings of training that a row may take for itself; None keeps the sweep's value."""

    width: float | None = Field(None, gt=0, le=4)
    steps: int | None = Field(None, ge=1, le=10**9)
    batch: int | None = Field(None, ge=2, le=10**6)
    d_updates: int | None = Field(None, ge=1, le=1000)
    learning_rate: float | None = Field(None, gt=0, le=1000)
    ema_start: int | None = Field(None, ge=0, le=10**9)
    ema_decay: float | None = Field(None, ge=0, lt=1)


class Tunable(GanOverrides):
    """Settings of training that can be varied; ``seed`` 0 is the training without variations."""

    seed: int | None = Field(None, ge=0, lt=2**31)
    weights: Literal["ema", "raw"] | None = None
    fake_labels: Literal["uniform", "training"] | None = None
    precision: PrecisionName | None = None
    ema: Literal["fitted", "row"] | None = None


class VaryError(ValueError):
    """What is wrong with ``train.vary``; a problem begins with the key below it, or a colon."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


def check_vary(tree: Any, fields: Collection[str] | None) -> None:
    """Check the form of ``train.vary``.

    Args:
        tree: as YAML gives it.
        fields: those of all rows' parts (``ADA.target``); None checks no names.

    Raises:
        VaryError: with every problem.
    """
    if isinstance(tree, list):
        problems = list(_variants(tree, fields))
    elif isinstance(tree, dict) and any(key in tree for key in _DRAW_KEYS):
        problems = list(_draws(tree, fields))
    elif isinstance(tree, dict):
        problems = list(_settings(tree, fields, _values))
    else:
        problems = [
            ": must be a grid (setting: [values]), draws (sample: 20, from: …) or a list of "
            f"variants, not {shown(tree)}"
        ]
    if problems:
        raise VaryError(problems)


def check_variation(values: Mapping[str, Any], fields: Collection[str] | None = None) -> None:
    """Check the values of one variation that `ensgan add` asks for.

    Args:
        fields: see :func:`check_vary`.

    Raises:
        InputError: one sentence about the first value that does not suit.
    """
    plain = {key: list(of) if isinstance(of, tuple) else of for key, of in values.items()}
    try:
        check_vary([plain], fields)
    except VaryError as error:
        raise InputError(f"--vary {error.problems[0].removeprefix('[0]').lstrip('.: ')}") from error


def is_draws(tree: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether variations are draws, not a grid or a list."""
    return isinstance(tree, Mapping) and "from" in tree


def searched(tree: Any) -> Mapping[str, Any] | None:
    """``train.vary`` where its draws depend on the results of earlier ones, else None."""
    return tree if is_draws(tree) and "search" in tree else None


def _settings(tree: Mapping[Any, Any], fields: Collection[str] | None, check: Any) -> Iterator[str]:
    """Problems of a mapping from settings to what ``check`` looks at."""
    if not tree:
        yield ": is empty: name settings and their values, or leave vary out"
    for key, value in tree.items():
        reason = _no_setting(key, fields)
        if reason:
            yield f": {reason}"
        else:
            yield from (f".{key}: {problem}" for problem in check(key, value))


def _no_setting(key: Any, fields: Collection[str] | None) -> str:
    if key in FIXED:
        return f"'{key}' cannot be varied: {FIXED[key]}"
    known = (*Tunable.model_fields, *(fields or ()))
    if key in known or (fields is None and isinstance(key, str)):
        return ""
    meant = next((name for name, short in SHORT.items() if key == short), None)
    if meant:
        return f"unknown setting to vary '{key}': did you mean '{meant}'?"
    return unknown_name("setting to vary", str(key), known)


def _values(key: str, values: Any) -> Iterator[str]:
    """Problems of a list of values."""
    if not isinstance(values, list):
        yield f"write a list of values, not {shown(values)}"
    elif not values:
        yield "the list is empty: name values, or leave the setting out"
    else:
        for value in values:
            yield from _value(key, value)
        seen: set[Any] = set()
        repeated = {shown(value) for value in values if _is_known(value, seen)}
        yield from (f"{value} occurs twice" for value in sorted(repeated))


def _is_known(value: Any, seen: set[Any]) -> bool:
    """Whether an equal value was seen before; remembers it. Quick for any number of values."""
    hashed = _hashable(value)
    if hashed in seen:
        return True
    seen.add(hashed)
    return False


def _hashable(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    if isinstance(value, dict):
        return frozenset((key, _hashable(one)) for key, one in value.items())
    return value


def _value(key: str, value: Any) -> Iterator[str]:
    """Why a value does not suit a setting."""
    if key in Tunable.model_fields and value is not None:
        try:
            Tunable.model_validate({key: value})
        except ValidationError as error:
            yield problem_of(error.errors()[0], "")
        return
    numbers = value if isinstance(value, list) and value else [value]
    if not isinstance(value, (bool, str)) and not all(map(_is_number, numbers)):
        yield f"a value is a number, a text, true or false, not {shown(value)}"


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < 1e15 and math.isfinite(value)


def _draws(tree: Mapping[str, Any], fields: Collection[str] | None) -> Iterator[str]:
    for key in tree:
        if key not in _DRAW_KEYS:
            yield f": {unknown_name('key of draws', str(key), _DRAW_KEYS)}"
    sample, drawn = tree.get("sample"), tree.get("from")
    if type(sample) is not int or not 1 <= sample <= MOST_DRAWS:
        yield (
            f".sample: must be a number of draws from 1 to {MOST_DRAWS:,}, not {shown(sample)}"
            if "sample" in tree
            else ".sample: is required: how many configurations each GAN is trained in"
        )
    if isinstance(drawn, dict):
        yield from (f".from{problem}" for problem in _settings(drawn, fields, _range_or_values))
    else:
        yield f".from: must name settings and what is drawn for them, not {shown(drawn)}"
    choices = {"method": METHODS, "search": SEARCHES, "objective": OBJECTIVES}
    for key, known in choices.items():
        if key in tree and tree[key] not in known:
            yield f".{key}: {unknown_name(key, str(tree[key]), known)}"
    if "objective" in tree and "search" not in tree:
        yield f".objective: is of a search: name one ({', '.join(SEARCHES)}), or leave it out"


def _range_or_values(key: str, drawn: Any) -> Iterator[str]:
    if not isinstance(drawn, dict):
        yield from _values(key, drawn)
        return
    if len(drawn) != 1 or next(iter(drawn)) not in RANGES:
        yield f"write a list, {{uniform: [low, high]}} or {{log: [low, high]}}, not {shown(drawn)}"
        return
    ((scale, ends),) = drawn.items()
    lowest = 0.0 if scale == "log" else -math.inf
    if not isinstance(ends, list) or len(ends) != 2 or not all(_is_number(end) for end in ends):
        yield f"{scale} takes two numbers, [low, high], not {shown(ends)}"
    elif not lowest < ends[0] < ends[1]:
        above = "numbers above 0, " if scale == "log" else ""
        yield f"{scale} takes {above}the lower one first, not {shown(ends)}"
    else:
        for end in ends:
            yield from _value(key, end)


def _variants(tree: Sequence[Any], fields: Collection[str] | None) -> Iterator[str]:
    if not tree:
        yield ": the list is empty: name variants, or leave vary out"
    seen: set[Any] = set()
    for i, variant in enumerate(tree):
        where = f"[{i}]"
        if not isinstance(variant, dict):
            yield f"{where}: a variant is a mapping from settings to values, not {shown(variant)}"
            continue
        settings = {key: value for key, value in variant.items() if key != "name"}
        name = variant.get("name")
        if name is None and not settings:
            yield f"{where}: is empty: name settings and their values"
        if name is not None and not (isinstance(name, str) and _VARIANT_NAME.fullmatch(name)):
            yield (
                f"{where}.name: {shown(name)} cannot be part of a file's name: use at most 40 "
                "letters, digits, '.', '_', '+' and '-'"
            )
        for problem in _settings(settings, fields, _value) if settings else ():
            yield f"{where}{problem}"
        if _is_known(settings, seen):
            yield f"{where}: {shown(settings)} occurs twice"
