"""MedMNIST files: form, checksums, sizes, labels, and what is said of broken ones."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from ensgan import inputs
from ensgan.data import archive, load_dataset, medmnist, names
from ensgan.data.medmnist import SetInfo, source_size
from ensgan.errors import ConfigError, DataError, IntegrityError
from ensgan.files import sha256_file


def write_set(
    path: Path, *, size: int = 28, channels: int = 1, classes: int = 2, multi: int = 0
) -> Path:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 24), ("val", 8), ("test", 12)):
        shape = (count, size, size) if channels == 1 else (count, size, size, channels)
        arrays[f"{split}_images"] = rng.integers(0, 256, shape, dtype=np.uint8)
        if multi:
            arrays[f"{split}_labels"] = rng.integers(0, 2, (count, multi)).astype(np.uint8)
        else:
            arrays[f"{split}_labels"] = (np.arange(count) % classes).astype(np.uint8)[:, None]
    np.savez_compressed(path, **arrays)
    return path


@pytest.fixture
def known_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made breastmnist.npz whose MD5 passes for the official one."""
    path = write_set(tmp_path / "breastmnist.npz")
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    info = SetInfo(path.name, "https://example.org/b.npz", md5, ("malignant", "rest"), "CC")
    monkeypatch.setattr(medmnist, "set_info", lambda name, size=28: info)
    return path


def test_the_static_names_are_those_of_the_package() -> None:
    table = medmnist._package_table()  # importing the whole package would take seconds
    flat = {name for name in table if not name.endswith("3d")}
    assert set(medmnist.NAMES) == flat
    assert set(medmnist.NAMES) <= set(names())
    for name in flat:
        assert medmnist.set_info(name).class_names == tuple(table[name]["label"].values())
        for size in medmnist.SIZES:
            info = medmnist.set_info(name, size)
            assert info.file_name in info.url
            assert re.fullmatch(r"[0-9a-f]{32}", info.md5)
            assert medmnist.parse_file_name(info.file_name) == (name, size)


def test_names_do_not_import_the_package() -> None:
    import subprocess

    code = (
        "import sys; from ensgan.data import names; names();"
        "assert 'medmnist' not in sys.modules; assert 'torch' not in sys.modules;"
        "assert 'pydicom' not in sys.modules;"
        "from ensgan.data.medmnist import set_info; set_info('breastmnist');"
        "assert 'medmnist' not in sys.modules; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_real_pneumoniamnist_needs_its_checksum_accepted(shared: Path) -> None:
    root = shared / "data"
    file = root / "pneumoniamnist.npz"
    with pytest.raises(IntegrityError) as caught:
        load_dataset("pneumoniamnist", root=root)
    found = hashlib.md5(file.read_bytes()).hexdigest()
    assert f'accept_checksum: "{found}"' in str(caught.value)
    for accepted in ("any", found, sha256_file(file).upper()):
        archive.require_checksum(file, accepted, official="0" * 32)
    dataset = load_dataset("pneumoniamnist", root=root, options={"accept_checksum": found})
    with pytest.raises(IntegrityError, match="not the accepted checksum"):
        load_dataset("pneumoniamnist", root=root, options={"accept_checksum": "0" * 32})
    assert [len(split) for split in dataset.splits().values()] == [4708, 524, 624]
    assert dataset.train.images.shape == (4708, 32, 32)
    assert np.bincount(dataset.train.labels).tolist() == [1214, 3494]
    assert dataset.class_names == ("normal", "pneumonia")
    assert dataset.licence == "CC BY 4.0"
    # The resampling is anti-aliased and keeps the brightness.
    raw = np.load(file)["train_images"]
    assert dataset.train.images.mean() == pytest.approx(raw.mean(), abs=0.5)


def test_a_file_of_medmnist_form_can_be_named_by_its_path(shared: Path) -> None:
    dataset = load_dataset(shared / "data" / "pneumoniamnist.npz", image_size=28)
    assert dataset.name == "pneumoniamnist"
    assert dataset.class_names == ("normal", "pneumonia")
    np.testing.assert_array_equal(
        dataset.val.images, np.load(shared / "data" / "pneumoniamnist.npz")["val_images"]
    )


def test_the_data_folder_comes_from_the_environment(
    known_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENSGAN_DATA", str(known_set.parent))
    assert len(load_dataset("breastmnist").train) == 24
    monkeypatch.setenv("ENSGAN_DATA", str(known_set.parent / "absent"))
    with pytest.raises(DataError, match="ENSGAN_DATA"):
        load_dataset("breastmnist")


def test_the_default_folder_is_created(known_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = known_set.parent / "home"
    home.mkdir()
    monkeypatch.delenv("ENSGAN_DATA", raising=False)
    monkeypatch.setenv("HOME", str(home))
    with pytest.raises(DataError, match="downloads are off"):
        load_dataset("breastmnist", options={"download": False})
    assert (home / ".medmnist").is_dir()


def test_a_missing_file_names_the_manual_route(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_dataset("bloodmnist", root=tmp_path, image_size=64, options={"download": False})
    message = str(caught.value)
    for part in ("bloodmnist_64.npz", "2b94928a2ae4916078ca51e05b6b800b", "zenodo", str(tmp_path)):
        assert part in message


@pytest.mark.parametrize(
    ("wanted", "source"), [(8, 28), (28, 28), (32, 28), (33, 64), (64, 64), (128, 128), (512, 224)]
)
def test_the_source_size_suits_the_image_size(wanted: int, source: int) -> None:
    assert source_size(wanted) == source


def test_rgb_and_channels(tmp_path: Path) -> None:
    path = write_set(tmp_path / "mine.npz", channels=3, classes=7, size=40)
    rgb = load_dataset(path)
    assert rgb.train.images.shape == (24, 32, 32, 3)
    assert rgb.num_classes == 7
    assert load_dataset(path, options={"channels": 1}).train.images.shape == (24, 32, 32)
    grey = write_set(tmp_path / "grey.npz")
    tripled = load_dataset(grey, options={"channels": 3}).train.images
    assert tripled.shape == (24, 32, 32, 3)
    assert np.all(tripled[..., 0] == tripled[..., 2])


def test_multi_label_sets_become_two_classes(tmp_path: Path) -> None:
    path = write_set(tmp_path / "chestmnist.npz", multi=14)
    raw = np.load(path)["train_labels"]
    any_finding = load_dataset(path)
    assert any_finding.class_names == ("no finding", "finding")
    np.testing.assert_array_equal(any_finding.train.labels, raw.any(axis=1))
    one = load_dataset(path, options={"target": "pneumonia"})
    assert one.class_names == ("no pneumonia", "pneumonia")
    np.testing.assert_array_equal(one.train.labels, raw[:, 6])
    with pytest.raises(DataError, match="target must be"):
        load_dataset(path, options={"target": "flu"})


def test_a_truncated_file_is_called_truncated(known_set: Path) -> None:
    content = known_set.read_bytes()
    known_set.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="truncated or corrupt"):
        load_dataset("breastmnist", root=known_set.parent)
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 0xFF
    known_set.write_bytes(damaged)
    with pytest.raises((DataError, IntegrityError), match=r"corrupt|damaged"):
        load_dataset("breastmnist", root=known_set.parent)


def test_a_file_without_permission_says_so(
    known_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read everything
    with pytest.raises(DataError, match="no permission to read"):
        load_dataset("breastmnist", root=known_set.parent)


def test_wrong_content_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, images=np.zeros(3))
    with pytest.raises(DataError, match=r"lacks train_images.*it has images"):
        load_dataset(path)
    good = dict(np.load(write_set(tmp_path / "good.npz")))
    bad = {
        "uint8": {"train_images": good["train_images"].astype(np.float32)},
        "empty": {"test_images": good["test_images"][:0], "test_labels": good["test_labels"][:0]},
        "24 images but 5 labels": {"train_labels": good["train_labels"][:5]},
        "class indices": {"train_labels": good["train_labels"].astype(np.int64) - 1},
        "not square": {
            f"{split}_images": good[f"{split}_images"][:, :20] for split in ("train", "val", "test")
        },
    }
    for message, changed in bad.items():
        np.savez(path, **{**good, **changed})
        with pytest.raises(DataError, match=message):
            load_dataset(path)


def test_a_header_that_promises_too_much_is_refused(tmp_path: Path) -> None:
    import io
    import zipfile

    header = io.BytesIO()
    shape = (1 << 40, 28, 28)
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    path = tmp_path / "own.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for split in ("train", "val", "test"):
            for kind in ("images", "labels"):
                archive.writestr(f"{split}_{kind}.npy", header.getvalue() + b"few")
    with pytest.raises(DataError, match="which its 3 bytes do not hold"):
        load_dataset(path)


def test_pickles_and_zip_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.npz"
    good = dict(np.load(write_set(tmp_path / "good.npz")))
    np.savez(path, **{**good, "train_labels": np.array([{}] * 24, dtype=object)})
    with pytest.raises(DataError, match="allow_pickle"):
        load_dataset(path)
    monkeypatch.setattr(inputs, "_BOMB_BYTES", 1 << 20)
    flat = {**good, "train_images": np.zeros((5000, 28, 28), np.uint8)}
    np.savez_compressed(path, **flat)
    with pytest.raises(DataError, match="zip bomb"):
        load_dataset(path)


def test_option_problems_come_all_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_dataset(
            "pneumoniamnist",
            root=tmp_path,
            options={"chanels": 1, "source_size": 30, "download": "yes"},
        )
    assert len(caught.value.problems) == 3
    assert "did you mean 'channels'" in str(caught.value)


@pytest.mark.parametrize("name", ["pneumoniamist", "no/such/folder", "absent.npz"])
def test_unknown_names_and_paths(name: str) -> None:
    with pytest.raises(DataError, match=r"did you mean 'pneumoniamnist'|no such file"):
        load_dataset(name)
