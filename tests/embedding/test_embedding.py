"""Extractors and embeddings: independence of batching, keys, files, cache, bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensgan.embedding import embed, load_extractor, make_extractor
from ensgan.errors import DataError, InputError


def images(n: int, seed: int = 0, channels: int = 1, size: int = 32) -> np.ndarray:
    shape = (n, size, size) if channels == 1 else (n, size, size, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def extractor():
    return make_extractor("random")


def test_random_makes_finite_float32_vectors(extractor) -> None:
    features = extractor(images(5))
    assert features.shape == (5, extractor.dim)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert 64 <= extractor.dim <= 512
    # Different images lie apart, equal ones together.
    assert np.linalg.norm(features[0] - features[1]) > 0.1


@settings(max_examples=3, deadline=None)
@given(cut=st.integers(1, 99))
def test_vectors_do_not_depend_on_the_batch(extractor, cut: int) -> None:
    pool = images(100, seed=3)
    whole = extractor(pool)
    assert np.array_equal(extractor(pool[cut:]), whole[cut:])
    assert np.array_equal(embed(pool, extractor).features, whole)


def test_seed_decides_network_and_key(extractor) -> None:
    again, other = make_extractor("random"), make_extractor("random", seed=1)
    assert again.key == extractor.key != other.key
    assert not np.allclose(again(images(2)), other(images(2)))


def test_file_rebuilds_the_extractor(extractor, tmp_path: Path) -> None:
    path = tmp_path / "extractor.safetensors"
    extractor.save(path)
    loaded = load_extractor(path)
    assert (loaded.key, loaded.dim, loaded.name) == (extractor.key, extractor.dim, "random")
    assert np.array_equal(loaded(images(3)), extractor(images(3)))


def test_damaged_and_foreign_files_are_refused(extractor, tmp_path: Path) -> None:
    path = tmp_path / "extractor.safetensors"
    extractor.save(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match="safetensors"):
        load_extractor(path)
    with pytest.raises(DataError, match="no such extractor file"):
        load_extractor(tmp_path / "none.safetensors")


def test_cache_is_read_back_only_for_equal_content(extractor, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def run(pool: np.ndarray):
        seen.clear()
        return embed(pool, extractor, cache=tmp_path, on_progress=lambda *done: seen.append(done))

    first = run(images(70))
    assert seen == [(64, 70), (70, 70)]
    again = run(images(70))
    assert seen == []
    assert np.array_equal(first.features, again.features)
    assert again.extractor == extractor.key
    run(images(70, seed=1))
    assert seen


def test_bad_input_is_named(extractor) -> None:
    with pytest.raises(InputError, match="did you mean 'random'"):
        make_extractor("randm")
    with pytest.raises(InputError, match="takes no file"):
        make_extractor("random", weights=Path("w.pth"))
    with pytest.raises(InputError, match="3 channels"):
        extractor(images(2, channels=3))
    with pytest.raises(InputError, match="float64"):
        extractor(images(2).astype(float))


def test_one_image_at_a_time_gives_the_same_vectors(extractor) -> None:
    pool = images(3, seed=4)
    single = [extractor(image[None])[0] for image in pool]
    assert np.array_equal(single, extractor(pool))
