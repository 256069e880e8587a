"""Draws of variations: quasi-random or random points, and what they mean in lists and ranges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ensgan.config.vary import WHOLE

_DIGITS = 4
"""Of numbers that are drawn, so that names can show them whole."""


def draw(
    tree: Mapping[str, Any], own: Mapping[str, Any], multiple: int, seed: int
) -> list[dict[str, Any]]:
    """Different draws from ranges and lists; more draws begin with the same ones.

    Args:
        tree: ``sample``, ``from`` and ``method`` as the spec has checked them.
        own: a value of every field of a part, which tells whole numbers from others.
        multiple: of which drawn ``steps`` are one.
        seed: of the draws.

    Returns:
        ``sample`` of them, or as many as 20 times as many draws have found.
    """
    from scipy.stats import qmc

    drawn = tree["from"]
    random = np.random.default_rng(seed)
    halton = qmc.Halton(len(drawn), scramble=True, seed=random)
    found: dict[str, dict[str, Any]] = {}
    for _ in range(20 * tree["sample"]):
        points = random.random(len(drawn)) if tree.get("method") == "random" else halton.random()[0]
        values = settled(
            {
                key: _value_at(float(point), of, is_whole(key, own))
                for point, (key, of) in zip(points, drawn.items(), strict=True)
            },
            drawn,
            multiple,
        )
        found.setdefault(repr(values), values)
        if len(found) == tree["sample"]:
            break
    return list(found.values())


def is_whole(key: str, own: Mapping[str, Any]) -> bool:
    """Whether a setting is a whole number."""
    return key in WHOLE or isinstance(own.get(key), int)


def settled(values: Mapping[str, Any], drawn: Mapping[str, Any], multiple: int) -> dict[str, Any]:
    """Drawn values with as many digits as names show, and steps that make whole snapshots."""
    found = dict(values)
    for key, of in drawn.items():
        if isinstance(of, dict) and isinstance(found.get(key), float):
            found[key] = _rounded(found[key], *next(iter(of.values())))
    if isinstance(drawn.get("steps"), dict) and "steps" in found:
        found["steps"] = max(1, round(found["steps"] / multiple)) * multiple
    return found


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


def _rounded(value: float, low: float, high: float) -> float:
    return min(float(high), max(float(low), float(f"{value:.{_DIGITS}g}")))
