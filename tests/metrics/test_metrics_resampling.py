"""Resamples counted in the scoring pass against recomputing them from the distances."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ensgan.cli.app import app
from ensgan.errors import DataError, InputError
from ensgan.metrics import ball_counts, blocks, score_pool
from ensgan.metrics.ball_counts import kept_count, kept_points
from ensgan.metrics.pool import REAL as REAL_NAME
from ensgan.metrics.sums import check_rounds
from ensgan.types import PoolScores, Resamples

ROUNDS, K = 70, 3  # more than a word of rounds
FIELDS = ("points", "masks", "density", "directed")
RNG = np.random.default_rng(4)
REAL = RNG.normal(size=(53, 4)).astype(np.float32)
FAKES = [
    (RNG.normal(size=(size, 4)) * spread + 0.2).astype(np.float32)
    for size, spread in ((41, 1.0), (37, 0.6), (45, 1.4), (41, 0.02))
]
NAMES = ["A@1", "A@2", "B@1", "B@2"]


@pytest.fixture(scope="module")
def scores() -> PoolScores:
    return score_pool(REAL, FAKES, NAMES, k=K, resamples=ROUNDS)


def rounds_of(scores: PoolScores) -> Resamples:
    assert scores.resamples is not None
    return scores.resamples


def same(first: PoolScores, second: PoolScores) -> bool:
    a, b = rounds_of(first), rounds_of(second)
    return all(np.array_equal(*(getattr(x, f) for x in (a, b)), equal_nan=True) for f in FIELDS)


def squared(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.square(first[:, None].astype(np.float64) - second[None]).sum(axis=2)


def by_hand(
    balls: np.ndarray, points: np.ndarray, keep_balls: np.ndarray, keep_points: np.ndarray
) -> tuple[float, float, np.ndarray]:
    """Density, d and balls reached of the kept parts, with the radii of the whole sets."""
    own = squared(balls, balls)
    np.fill_diagonal(own, np.inf)
    radius = np.sort(own, axis=1)[:, K - 1]
    inside = squared(balls, points) < radius[:, None]
    inside = inside[np.ix_(keep_balls, keep_points)]
    per_point = inside.sum() / keep_points.sum()
    density = per_point / K * len(balls) / keep_balls.sum()
    coverage = inside.any(axis=1).mean()
    total = density + coverage
    return density, 2 * density * coverage / total if total else 0.0, inside.any(axis=1)


def test_every_round_is_what_its_points_and_images_give(scores: PoolScores) -> None:
    found = rounds_of(scores)
    sets = dict(zip((REAL_NAME, *NAMES), (REAL, *FAKES), strict=True))
    keep = {name: kept_points(name, len(each), ROUNDS) == 1 for name, each in sets.items()}
    for b in (0, 1, 33, 63, 64, ROUNDS - 1):
        kept = {name: flags[:, b] for name, flags in keep.items()}
        real = np.unpackbits(found.points[b], count=len(REAL)).astype(bool)
        assert np.array_equal(real, kept[REAL_NAME])
        for g, name in enumerate(NAMES):
            density, _, reached = by_hand(REAL, FAKES[g], real, kept[name])
            assert found.density[b, g] == pytest.approx(density, abs=1e-12)
            mask = np.unpackbits(found.masks[b, g], count=len(REAL)).astype(bool)
            assert np.array_equal(mask[real], reached) and not mask[~real].any()
            for h, other in enumerate(NAMES):
                if g != h:
                    _, d, _ = by_hand(FAKES[g], FAKES[h], kept[name], kept[other])
                    assert found.directed[b, g, h] == pytest.approx(d, abs=1e-6)
        part = scores.resample(b)
        assert part.n_real == kept_count(len(REAL)) and part.resamples is None
        assert np.unpackbits(part.masks[0], count=part.n_real).mean() == part.coverage[0]
        assert part.overlap[0, 1] == pytest.approx((part.directed[0, 1] + part.directed[1, 0]) / 2)


def test_rounds_keep_three_quarters_and_each_set_its_own() -> None:
    first = kept_points("A", 41, 200)
    assert set(first.sum(axis=0)) == {30}
    assert np.array_equal(first, kept_points("A", 41, 200))
    assert len({column.tobytes() for column in first.T}) == 200
    assert not np.array_equal(first, kept_points("B", 41, 200))
    assert np.abs(first.mean(axis=1) - 30 / 41).max() < 0.15


def test_resamples_change_no_score_and_do_not_depend_on_the_blocks(
    scores: PoolScores, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = score_pool(REAL, FAKES, NAMES, k=K)
    assert plain.resamples is None
    assert np.array_equal(plain.masks, scores.masks)
    assert np.array_equal(plain.directed, scores.directed, equal_nan=True)
    monkeypatch.setattr(blocks, "block_entries", lambda scoring: 100)
    monkeypatch.setattr("ensgan.metrics.ball_counts._GATHER_BYTES", 2000)
    monkeypatch.setattr("ensgan.metrics.pool.group_sets", lambda *_: [(1,), (2, 3), (4,)])
    assert same(score_pool(REAL, FAKES, NAMES, k=K, resamples=ROUNDS), scores)


def test_more_hits_in_a_ball_than_a_byte_counts() -> None:
    crowd = np.zeros((700, 4), np.float32) + REAL[0]
    found = rounds_of(score_pool(REAL, [crowd, FAKES[0]], ["crowd", "A@1"], k=K, resamples=9))
    real = kept_points(REAL_NAME, len(REAL), 9) == 1
    kept = kept_points("crowd", 700, 9) == 1
    for b in range(9):
        density, _, _ = by_hand(REAL, crowd, real[:, b], kept[:, b])
        assert found.density[b, 0] == pytest.approx(density, abs=1e-12)


def test_a_grown_pool_has_the_resamples_of_the_pool_scored_at_once(scores: PoolScores) -> None:
    known = scores.part(["B@1", "A@1"])
    grown = score_pool(REAL, FAKES, NAMES, k=K, resamples=ROUNDS, known=known)
    assert same(grown, scores)
    with pytest.raises(InputError, match=f"hold {ROUNDS} resamples, not 5"):
        score_pool(REAL, FAKES, NAMES, k=K, resamples=5, known=known)
    assert score_pool(REAL, FAKES, NAMES, k=K, known=known).resamples is None


def test_an_interrupted_run_continues_with_its_resamples(
    scores: PoolScores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_pool(REAL, FAKES, NAMES, k=K, checkpoint=tmp_path)
    score_pool(REAL, FAKES, NAMES, k=K, resamples=ROUNDS, checkpoint=tmp_path)
    monkeypatch.setattr(ball_counts, "count_pairs", None)
    again = score_pool(REAL, FAKES, NAMES, k=K, resamples=ROUNDS, checkpoint=tmp_path)
    assert same(again, scores)


def test_files_keep_resamples_and_older_ones_are_read(scores: PoolScores, tmp_path: Path) -> None:
    path = tmp_path / "scores.npz"
    scores.save(path)
    assert same(PoolScores.load(path), scores)
    arrays = dict(np.load(path))
    del arrays["resampled_masks"]
    np.savez(path, **arrays)
    with pytest.raises(DataError, match="lacks resampled_masks"):
        PoolScores.load(path)
    for name in ("resampled_points", "resampled_density", "resampled_directed"):
        del arrays[name]
    np.savez(path, **arrays)
    old = PoolScores.load(path)
    assert old.resamples is None
    with pytest.raises(DataError, match="no resamples"):
        old.resample(0)
    with pytest.raises(DataError, match="resampled density has shape"):
        replace(scores, resamples=replace(rounds_of(scores), density=np.zeros((2, 4))))


def test_what_cannot_be_resampled_is_refused() -> None:
    with pytest.raises(InputError, match="-1 resamples"):
        score_pool(REAL, FAKES, NAMES, resamples=-1)
    with pytest.raises(InputError, match="use at most 24"):
        check_rounds(1000, 1000, 320_000, 2 << 40)
    told: list[int] = []
    with pytest.raises(InputError, match=r"a quarter of --memory.*or more memory"):
        score_pool(
            *(REAL, FAKES, NAMES),
            resamples=20_000,
            memory_bytes=1 << 20,
            on_progress=lambda done, total: told.append(done),
        )
    assert not told  # before any radius is measured


def test_the_command_keeps_resamples_when_asked(tmp_path: Path) -> None:
    pool, path, grown = tmp_path / "pool.npz", tmp_path / "scores.npz", tmp_path / "grown.npz"
    np.savez(pool, real=REAL, fake=np.stack(FAKES[::3]), names=NAMES[::3])
    words = ["score", str(pool), "-k", "3", "--json", "-o"]
    result = CliRunner().invoke(app, [*words, str(path), "--resamples", "6"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["resamples"] == 6
    assert len(rounds_of(PoolScores.load(path))) == 6
    result = CliRunner().invoke(app, [*words, str(grown), "--extend", str(path)])
    assert result.exit_code == 0 and "add --resamples 6 to keep them" in result.stderr
    assert PoolScores.load(grown).resamples is None
