from __future__ import annotations

import io
import os
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from small_disk import small_disk

from ensgan.errors import DataError, IntegrityError, StoreError, unknown_name
from ensgan.files import (
    atomic_path,
    content_key,
    is_whole,
    read_npz,
    require_whole,
    seal,
    sha256_file,
    write_bytes,
    write_json,
    write_npz,
)
from ensgan.types import Front, FrontPoint, PoolScores, Samples, harmonic_mean


def scores(names: tuple[str, ...] = ("A@1", "B@2")) -> PoolScores:
    m = len(names)
    directed = np.full((m, m), 0.5)
    np.fill_diagonal(directed, np.nan)
    return PoolScores(
        names,
        density=np.linspace(0.5, 1, m),
        coverage=np.linspace(0.2, 0.4, m),
        masks=np.zeros((m, 2), np.uint8),
        directed=directed,
        k=5,
        n_real=10,
        counts=np.full(m, 7),
        extractor="random-x",
    )


@given(st.floats(0, 5), st.floats(0, 1))
def test_harmonic_mean(density: float, coverage: float) -> None:
    d = float(harmonic_mean(density, coverage))
    if density + coverage == 0:
        assert d == 0
    else:
        assert d == pytest.approx(2 * density * coverage / (density + coverage), abs=1e-300)
        assert d <= 2 * min(density, coverage) + 1e-12


def test_scores_round_trip(tmp_path: Path) -> None:
    before = scores()
    before.save(tmp_path / "scores.npz")
    after = PoolScores.load(tmp_path / "scores.npz")
    assert after.names == before.names and after.extractor == "random-x"
    np.testing.assert_array_equal(after.directed, before.directed)
    assert int(read_npz(tmp_path / "scores.npz")["n_fake"]) == 7
    with pytest.raises(DataError, match="repeat"):
        scores(("A@1", "A@1"))


def _written(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    write_npz(path, **arrays)
    return path


@pytest.mark.parametrize("value", [np.nan, -1.0, 1e300, np.inf])
@pytest.mark.parametrize("name", ["density", "coverage", "directed", "overlap"])
def test_scores_that_no_pool_has_are_refused(tmp_path: Path, name: str, value: float) -> None:
    path = tmp_path / "scores.npz"
    scores().save(path)
    arrays = read_npz(path)
    # Files of earlier versions hold the overlap, which follows from the rest.
    arrays["overlap"] = arrays["directed"].copy()
    assert PoolScores.load(_written(path, arrays)).overlap[0, 1] == 0.5
    arrays[name].flat[1] = value
    write_npz(path, **arrays)
    with pytest.raises(DataError, match=rf"scores.npz: ({name} must be|overlap is not)"):
        PoolScores.load(path)


def test_inexact_scores_of_an_early_version_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.npz"
    scores().save(path)
    write_npz(path, **read_npz(path), fast=np.array(False))
    assert PoolScores.load(path).names == ("A@1", "B@2")
    write_npz(path, **{**read_npz(path), "fast": np.array(True)})
    with pytest.raises(DataError, match="inexact scores of an early --fast"):
        PoolScores.load(path)


def test_samples_round_trip_and_refusals(tmp_path: Path) -> None:
    images = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4)
    before = Samples(images, np.array([0, 1]), np.array([1, 0]), ("A@1", "B@1"))
    before.save(tmp_path / "s.npz")
    first = (tmp_path / "s.npz").read_bytes()
    after = Samples.load(tmp_path / "s.npz")
    assert after.key == before.key and after.member_names == ("A@1", "B@1")
    after.save(tmp_path / "s.npz")
    assert (tmp_path / "s.npz").read_bytes() == first
    with pytest.raises(DataError, match="uint8"):
        Samples(images.astype(float), np.array([0, 1]))
    with pytest.raises(DataError, match="2 images"):
        Samples(images, np.array([0]))


def test_front_round_trip(tmp_path: Path) -> None:
    front = Front(
        ("intra_d:max", "inter_d:min"),
        "s",
        3,
        10,
        9,
        0.5,
        0.75,
        (FrontPoint(("A@1", "B@2"), 0.5, 0.25, 0.6, 0.4),),
        "pool",
        ((0.1, 5, 0.7),),
    )
    front.save(tmp_path / "front.json")
    assert Front.load(tmp_path / "front.json") == front
    write_json(tmp_path / "bad.json", {"points": [{}]})
    with pytest.raises(DataError, match="is not a front file"):
        Front.load(tmp_path / "bad.json")


def test_nothing_is_half_written(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    write_bytes(path, b"old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old" and [f.name for f in tmp_path.iterdir()] == ["x.bin"]
    blocked = tmp_path / "file" / "x"
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        write_bytes(blocked, b"")


def test_a_full_disk_is_named_whoever_writes(tmp_path: Path) -> None:
    """torch and safetensors raise errors that do not say so."""
    large = torch.zeros(1 << 18)
    writers: list[Callable[[Path], object]] = [
        lambda path: path.write_bytes(bytes(1 << 20)),
        lambda path: np.save(path, large.numpy()),
        lambda path: torch.save({"a": large}, path),
        lambda path: save_file({"a": large}, path),
    ]
    with small_disk(tmp_path / "disk", 1) as disk:
        (disk / "half").write_bytes(bytes(1 << 19))
        for write in writers:
            with (
                pytest.raises(StoreError, match="No space left on device; make room"),
                atomic_path(disk / "x.npy") as temporary,
            ):
                write(temporary)
            assert [path.name for path in disk.iterdir()] == ["half"]


def test_a_limit_on_the_size_of_files_is_named_whoever_writes(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    writers: tuple[Callable[[Path], object], ...] = (
        lambda path: save_file({"a": torch.zeros(1 << 12)}, path),
        lambda path: path.write_bytes(bytes(1 << 12)),
    )
    for write in writers:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 10, limits[1]))
        try:
            with (
                pytest.raises(StoreError, match="File too large; make room"),
                atomic_path(tmp_path / "x.npy") as temporary,
            ):
                write(temporary)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_read_is_not_hashed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, tmp_path / "absent", Path("/proc/self/mem")):
        with pytest.raises(DataError, match=r"no plain file|no such file|cannot be read"):
            sha256_file(path)


def test_npz_refusals(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", x=np.zeros(3))
    with pytest.raises(DataError, match="lacks y"):
        read_npz(tmp_path / "a.npz", ("y",))
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="truncated or corrupt"):
        read_npz(tmp_path / "cut.npz")
    np.savez(tmp_path / "evil.npz", x=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="cannot be read"):
        read_npz(tmp_path / "evil.npz")


def test_keys_and_names() -> None:
    assert content_key({"a": 1, "b": 2}) == content_key({"b": 2, "a": 1}) != content_key({"a": 1})
    assert "did you mean 'SNGAN'" in unknown_name("GAN", "sngan", ["SNGAN", "SAGAN"])
    assert "known are" in unknown_name("GAN", "xyz", ["SNGAN", "SAGAN"])
    assert unknown_name("GAN", "xyz", []) == "unknown GAN 'xyz': there is none"


def test_a_mark_tells_other_content(tmp_path: Path) -> None:
    path = tmp_path / "front-1.json"
    assert not is_whole(path)
    path.write_text("[1]")
    assert is_whole(path)  # of an early version, without a mark
    seal(path)
    assert is_whole(path) and require_whole(path) == path
    for content in ("[2]", "", "[1"):
        path.write_text(content)
        with pytest.raises(IntegrityError, match=r"front-1\.json has changed since it was made"):
            require_whole(path)
    path.write_text("[1]")
    (tmp_path / "front-1.sha256").write_text("damaged")
    assert not is_whole(path)
    path.unlink()
    assert not is_whole(path)


@pytest.mark.parametrize(
    ("kind", "shape"), [("<U0", (99_999_999_999,)), ("<f8", (2**40,)), ("<f8", (3,)), ("<f8", ())]
)
def test_arrays_whose_headers_lie_are_refused(
    tmp_path: Path, kind: str, shape: tuple[int, ...]
) -> None:
    header, path = io.BytesIO(), tmp_path / "a.npz"
    description = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, description)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("names.npy", header.getvalue() + bytes(16))
    with pytest.raises(DataError, match=r"a\.npz: the array 'names' announces \["):
        read_npz(path)
