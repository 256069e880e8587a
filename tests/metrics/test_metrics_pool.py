from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
from typer.testing import CliRunner

from ensgan.cli.app import app
from ensgan.errors import InputError
from ensgan.metrics import blocks as blocks_module
from ensgan.metrics import density_coverage, measure_pool, prdc, score_pool
from ensgan.types import PoolScores


@pytest.fixture(scope="module")
def pool():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(61, 6)).astype(np.float32)
    fakes = [
        (rng.normal(size=(size, 6)) * spread).astype(np.float32)
        for size, spread in ((50, 1), (61, 0.5), (40, 1.2), (50, 1), (33, 0.9))
    ]
    fakes[3] = fakes[0].copy()
    return real, fakes, [f"G@{step}" for step in range(1, 6)]


def equal(a: PoolScores, b: PoolScores) -> bool:
    names = ("density", "coverage", "masks", "directed", "overlap", "counts")
    return all(
        np.array_equal(getattr(a, name), getattr(b, name), equal_nan=name != "masks")
        for name in names
    )


def test_pool_equals_pair_by_pair(pool):
    real, fakes, names = pool
    scores = score_pool(real, fakes, names, k=3)
    for g, fake in enumerate(fakes):
        own = density_coverage(real, fake, 3)
        assert (scores.density[g], scores.coverage[g]) == (own.density, own.coverage)
        assert np.unpackbits(scores.masks[g], count=61).mean() == own.coverage
        for h, other in enumerate(fakes):
            if g != h:
                assert scores.directed[g, h] == density_coverage(fake, other, 3).d
        measures = measure_pool(real, [fake], ["only"], k=3)
        every = prdc(real, fake, 3)
        assert (measures.precision[0], measures.recall[0]) == (every.precision, every.recall)
    assert np.isnan(np.diag(scores.directed)).all()
    assert np.array_equal(scores.overlap, scores.overlap.T, equal_nan=True)


def test_small_memory_lazy_sources_and_another_mapper_change_nothing(pool, tmp_path):
    real, fakes, names = pool
    paths = []
    for name, fake in zip(names, fakes, strict=True):
        paths.append(tmp_path / f"{name}.npy")
        np.save(paths[-1], fake)

    def backwards(function, tasks):
        return [function(task) for task in reversed(list(tasks))]

    lazy = [partial(np.load, path, mmap_mode="r") for path in paths]
    scores = score_pool(real, lazy, names, k=3, memory_bytes=1 << 20, mapper=backwards)
    assert equal(scores, score_pool(real, fakes, names, k=3))


def test_blocks_and_streaming_agree(pool, monkeypatch):
    """Sets placed piece by piece, and many small groups, give the same scores."""
    real, fakes, names = pool
    whole = score_pool(real, fakes, names, k=3)
    monkeypatch.setattr(blocks_module, "block_entries", lambda scoring: 100)
    monkeypatch.setattr("ensgan.metrics.pool.group_sets", lambda *_: [(1,), (2, 3), (4,), (5,)])
    monkeypatch.setattr(blocks_module, "stays_resident", lambda features, scoring: False)
    assert equal(score_pool(real, fakes, names, k=3), whole)


def test_an_interrupted_run_continues(pool, tmp_path, monkeypatch):
    real, fakes, names = pool
    fakes = [fake + index for index, fake in enumerate(fakes)]  # copies would share blocks
    monkeypatch.setattr("ensgan.metrics.pool.group_sets", lambda *_: [(1,), (2,), (3,), (4,), (5,)])
    whole = score_pool(real, fakes, names, k=3)
    done = []

    def failing(function, tasks):
        for task in tasks:
            if len(done) == 9 and isinstance(function, blocks_module.BlockScorer):
                raise KeyboardInterrupt
            yield function(task)
            done.append(task) if isinstance(function, blocks_module.BlockScorer) else None

    with pytest.raises(KeyboardInterrupt):
        score_pool(real, fakes, names, k=3, checkpoint=tmp_path, mapper=failing)
    assert len(list(tmp_path.glob("block-*.npz"))) == 9
    later = []

    def counting(function, tasks):
        for task in tasks:
            later.append(function)
            yield function(task)

    again = score_pool(real, fakes, names, k=3, checkpoint=tmp_path, mapper=counting)
    assert sum(isinstance(each, blocks_module.BlockScorer) for each in later) == 15 - 9
    assert equal(again, whole)
    changed = [fakes[0] * 2, *fakes[1:]]
    assert equal(
        score_pool(real, changed, names, k=3, checkpoint=tmp_path),
        score_pool(real, changed, names, k=3),
    )


def test_later_members_need_only_new_pairs(pool):
    real, fakes, names = pool
    old = score_pool(real, [fakes[3], fakes[1]], [names[3], names[1]], k=3)
    pairs = []
    grown = score_pool(
        *(real, fakes, names, 3), known=old, on_progress=lambda done, total: pairs.append(total)
    )
    assert pairs[-1] == 15 - 3 + 6  # and the radii of six sets
    assert equal(grown, score_pool(real, fakes, names, k=3))
    with pytest.raises(InputError, match="other features"):
        score_pool(real[:-1], fakes, names, 3, known=old)


def test_warnings_name_the_member(pool):
    real, fakes, names = pool
    collapsed = np.repeat(fakes[0][:1], 20, axis=0)
    said: list[str] = []
    scores = score_pool(
        np.concatenate([real, real[:2]]), [fakes[0], collapsed], names[:2], on_warning=said.append
    )
    assert any("2 of the 63 points of real features are copies" in line for line in said)
    assert any(f"{names[1]} has zero variance" in line for line in said)
    assert np.isfinite(scores.density).all()


def test_bad_pools_are_named(pool):
    real, fakes, names = pool
    bad = fakes[1].copy()
    bad[3, 2:4] = np.inf
    with pytest.raises(InputError, match=r"G@2 has 2 NaN or infinite values in 1 of its 61"):
        score_pool(real, [fakes[0], bad], names[:2])
    with pytest.raises(InputError, match="repeat: G@1"):
        score_pool(real, fakes[:2], ["G@1", "G@1"])
    for name in ("", " ", "a\nb", "\x1b[2J"):
        with pytest.raises(InputError, match="a name that can be printed"):
            score_pool(real, fakes[:2], ["G@1", name])
    with pytest.raises(InputError, match="3 dimensions"):
        score_pool(real, [fakes[0][:, :3]], names[:1])


def test_the_benchmark_pool_is_exact(shared):
    """A slice of the fixed-point pool against integer arithmetic."""
    arrays = np.load(shared / "bench" / "pool110.npz")
    sets = [np.rint(a * 1024.0).astype(np.int64) for a in (arrays["real"], *arrays["fake"][45:48])]

    def squared(a, b):
        norms = (a**2).sum(1)[:, None] + (b**2).sum(1)
        return norms - 2 * (a.astype(float) @ b.T.astype(float)).astype(np.int64)

    radii = []
    for points in sets:
        own = squared(points, points)
        np.fill_diagonal(own, np.iinfo(np.int64).max)
        radii.append(np.partition(own, 4, axis=1)[:, 4])
    scores = score_pool(arrays["real"], list(arrays["fake"][45:48]), ["a", "b", "c"])
    for g in range(3):
        hits = squared(sets[0], sets[g + 1]) < radii[0][:, None]
        assert scores.density[g] == hits.sum() / 5000
        assert np.array_equal(np.unpackbits(scores.masks[g]), hits.any(1))
        for h in range(3):
            if g != h:
                hits = squared(sets[g + 1], sets[h + 1]) < radii[g + 1][:, None]
                density, coverage = hits.sum() / 5000, hits.any(1).mean()
                assert scores.directed[g, h] == 2 * density * coverage / (density + coverage)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_cli_prdc(pool, tmp_path):
    real, fakes, _ = pool
    np.save(tmp_path / "real.npy", real)
    np.save(tmp_path / "fake.npy", fakes[0])
    result = run("prdc", tmp_path / "real.npy", tmp_path / "fake.npy", "-k", "3", "--json")
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout)
    assert set(value) == {
        "precision", "recall", "density", "coverage", "k", "n_real", "n_fake", "backend"
    }  # fmt: skip
    assert value["density"] == density_coverage(real, fakes[0], 3).density
    missing = run("prdc", tmp_path / "real.npy", tmp_path / "none.npy")
    assert "no such file" in str(missing.exception)


def test_cli_score_from_a_file_and_from_folders(pool, tmp_path):
    real, fakes, names = pool
    equal_size = np.stack([fake[:33] for fake in fakes])
    np.savez(tmp_path / "features.npz", real=real, fake=equal_size, names=names)
    output = tmp_path / "scores.npz"
    result = run("score", tmp_path / "features.npz", "-o", output, "--json")
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout)
    assert set(value) == {
        "members", "k", "seconds", "density", "coverage", "precision", "recall", "frechet"
    }  # fmt: skip
    assert value["members"] == 5 and list(value["density"]) == names
    first = PoolScores.load(output)
    assert not list(tmp_path.glob(".scores*"))

    flat, nested = tmp_path / "flat", tmp_path / "nested"
    (nested / "real").mkdir(parents=True)
    flat.mkdir()
    np.save(flat / "real.npy", real)
    np.save(nested / "real" / "0.npy", real)
    for name, fake in zip(names, equal_size, strict=True):
        np.save(flat / f"{name}.npy", fake)
        (nested / "fake" / name).mkdir(parents=True)
        np.save(nested / "fake" / name / "0.npy", fake[:20])
        np.save(nested / "fake" / name / "1.npy", fake[20:])
    for folder in (flat, nested):
        result = run("score", folder, "-o", output)
        assert result.exit_code == 0, result.output
        assert equal(PoolScores.load(output), first)


def test_cli_score_explains_bad_files(tmp_path):
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 no")
    result = run("score", tmp_path / "broken.npz", "-o", tmp_path / "s.npz")
    assert isinstance(result.exception, InputError)
    result = run("score", tmp_path, "-o", tmp_path / "s.npz")
    assert "real.npy" in str(result.exception)


def test_cli_score_shows_planted_copies(pool, tmp_path):
    real, fakes, names = pool
    held_out = np.random.default_rng(9).normal(size=(40, 6)).astype(np.float32)
    np.save(tmp_path / "held_out.npy", held_out)
    folder = tmp_path / "pool"
    folder.mkdir()
    np.save(folder / "real.npy", real)
    np.save(folder / f"{names[0]}.npy", fakes[0])
    np.save(folder / f"{names[1]}.npy", np.concatenate([real[:20], fakes[0]]))
    unseen = tmp_path / "held_out.npy"
    arguments = ("score", folder, "-o", tmp_path / "s.npz", "--held-out", unseen)
    rows = json.loads(run(*arguments, "--json").stdout)["memorisation"]
    assert rows[names[1]]["copy_candidates"] >= rows[names[0]]["copy_candidates"] + 20
    assert rows["(all members)"]["images"] == 120
    assert "memorisation" in run(*arguments).stdout


def test_cli_score_of_image_folders(tmp_path):
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for part, count in (("real", 12), ("fake/A@1", 9), ("fake/B@2", 8)):
        (tmp_path / "pool" / part).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 256, (32, 32), dtype=np.uint8)
            image.fromarray(pixels).save(tmp_path / "pool" / part / f"{index}.png")
    result = run("score", tmp_path / "pool", "-o", tmp_path / "s.npz", "-k", "2", "--json")
    assert result.exit_code == 0, result.output
    scores = PoolScores.load(tmp_path / "s.npz")
    assert scores.names == ("A@1", "B@2") and scores.extractor
    assert scores.counts.tolist() == [9, 8]
    (tmp_path / "pool" / "fake" / "B@2" / "3.png").write_bytes(b"not an image")
    broken = run("score", tmp_path / "pool", "-o", tmp_path / "s.npz", "-k", "2")
    assert "3.png" in str(broken.exception)


def test_planted_copies_are_found_in_image_folders(tmp_path, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    monkeypatch.setenv("ENSGAN_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(1)
    real, held_out, honest, fresh = (
        rng.integers(0, 256, (n, 16, 16), dtype=np.uint8) for n in (30, 20, 20, 10)
    )
    sets = {
        "real": real,
        "held_out": held_out,
        "fake/Honest@1": honest,
        "fake/Copier@1": np.concatenate([real[:10], fresh]),
    }
    for part, images in sets.items():
        (tmp_path / "pool" / part).mkdir(parents=True)
        for index, pixels in enumerate(images):
            image.fromarray(pixels).save(tmp_path / "pool" / part / f"{index:02}.png")
    result = run("score", tmp_path / "pool", "-o", tmp_path / "s.npz", "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["memorisation"]
    assert rows["Copier@1"]["copy_candidates"] == 10
    assert rows["Honest@1"]["copy_candidates"] == 0
    assert rows["(all members)"]["copy_share"] == 10 / 40
    cached = list((tmp_path / "cache" / "features").glob("*.npz"))
    assert len(cached) == 4, "embeddings of all four sets are kept"


def test_pairs_side_by_side_in_threads(pool):
    import torch

    real, fakes, names = pool
    before = torch.get_num_threads()
    alone = score_pool(real, fakes, names, k=3)
    torch.set_num_threads(3)
    try:
        together = score_pool(real, fakes, names, k=3)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert equal(alone, together)
