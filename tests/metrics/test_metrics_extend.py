"""Pools that grow: known scores are taken over where the content is the same, and only there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ensgan.errors import DataError
from ensgan.metrics import blocks, measure_pool, pool, score_pool
from ensgan.metrics.extend import feature_contents, still_valid
from ensgan.metrics.features import PoolFeatures
from ensgan.types import PoolScores

RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(40, 6)).astype(np.float32)
FAKES = [RNG.normal(size=(40, 6)).astype(np.float32) * (0.8 + 0.1 * i) for i in range(4)]
NAMES = ["A", "B", "C", "D"]


def scored(names: list[str]) -> PoolScores:
    fakes = [FAKES[NAMES.index(name)] for name in names]
    contents = feature_contents(REAL, fakes, names)
    return replace(score_pool(REAL, fakes, names, extractor="x"), contents=contents)


def keep(
    known: PoolScores,
    fakes: list[np.ndarray],
    k: int = 5,
    warn: Callable[[str], None] = print,
    **changes: Any,
) -> PoolScores | None:
    contents = feature_contents(REAL, fakes, NAMES)
    pool = PoolFeatures(REAL, tuple(fakes), tuple(NAMES), extractor="x", contents=contents)
    return still_valid(known, replace(pool, **changes), k, warn)


def test_a_grown_pool_is_the_pool_scored_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    known = keep(scored(["C", "A"]), FAKES)
    assert known is not None and known.names == ("C", "A")
    pairs: list[int] = []
    plain = blocks.BlockScorer()

    def counted(task: blocks.BlockTask) -> blocks.BlockScores:
        pairs.append(int(task.wanted.sum()))
        return plain(task)

    monkeypatch.setattr(pool, "BlockScorer", lambda: counted)
    grown = measure_pool(REAL, FAKES, NAMES, known=known, extractor="x").scores
    assert sum(pairs) == 2 + (6 - 1), "two new rows, and all pairs but A–C"
    whole = scored(NAMES)
    for field in ("density", "coverage", "masks", "directed", "overlap"):
        np.testing.assert_array_equal(getattr(grown, field), getattr(whole, field))


def test_changed_members_are_scored_anew() -> None:
    said: list[str] = []
    fakes = [FAKES[0], FAKES[1] + 1, FAKES[2], FAKES[3]]
    known = keep(scored(["A", "B"]), fakes, warn=said.append)
    assert known is not None and known.names == ("A",)
    assert said == ["B changed since they were scored: scored anew"]
    grown = score_pool(REAL, fakes, NAMES, known=known)
    np.testing.assert_array_equal(grown.directed, score_pool(REAL, fakes, NAMES).directed)
    assert keep(scored(["B"]), fakes) is None


def test_other_settings_are_refused() -> None:
    known = scored(["A", "B"])
    with pytest.raises(DataError, match=r"other k \(5 then, 4 now\)"):
        keep(known, FAKES, k=4)
    with pytest.raises(DataError, match=r"other extractor \(x then, y now\)"):
        keep(known, FAKES, extractor="y")
    with pytest.raises(DataError, match="other real images"):
        keep(known, FAKES, contents=feature_contents(REAL + 1, FAKES, NAMES))
    with pytest.raises(DataError, match="do not say what they are of"):
        keep(replace(known, contents=()), FAKES)


def test_contents_and_parts_survive_the_file(tmp_path: Path) -> None:
    known = scored(["A", "B", "C"])
    known.save(tmp_path / "scores.npz")
    loaded = PoolScores.load(tmp_path / "scores.npz")
    assert loaded.contents == known.contents
    part = loaded.part(["C", "A"])
    assert part.contents == (known.contents[0], known.contents[3], known.contents[1])
    np.testing.assert_array_equal(part.overlap[0, 1], known.overlap[2, 0])
    with pytest.raises(DataError, match="2 content keys for 4 sets"):
        replace(known, contents=("a", "b"))
