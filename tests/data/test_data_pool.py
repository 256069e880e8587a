"""Pools of outside generators: folders and files of images, their classes, what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ensgan.data import load_dataset
from ensgan.data.pool import is_image_pool, read_pool, read_real
from ensgan.errors import DataError

RNG = np.random.default_rng(0)
SIZE = 16


def noise(n: int, *shape: int) -> np.ndarray:
    return RNG.integers(0, 256, (n, *(shape or (SIZE, SIZE))), dtype=np.uint8)


def pictures(folder: Path, images: np.ndarray) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index:02d}.png")
    return folder


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    root = tmp_path / "pool"
    for label in ("healthy", "ill"):
        pictures(root / "real" / label, noise(6))
        pictures(root / "fake" / "Folder" / label, noise(4))
    np.savez(root / "fake" / "Array.npz", images=noise(5), labels=np.array([0, 1, 1, 0, 1]))
    np.savez(root / "fake" / "Large.npz", images=noise(3, 30, 34, 3), labels=np.zeros((3, 1), int))
    (root / "fake" / "Array.json").write_text(json.dumps({"licence": "CC0", "epochs": 3}))
    return root


def test_folders_and_files_become_one_pool(pool: Path) -> None:
    assert is_image_pool(pool)
    seen: list[tuple[int, int]] = []
    found = read_pool(pool, on_progress=lambda *state: seen.append(state))
    assert found.class_names == ("healthy", "ill")
    assert [member.name for member in found.members] == ["Array", "Folder", "Large"]
    array, folder, large = found.members
    assert array.samples.labels.tolist() == [0, 1, 1, 0, 1]
    assert folder.samples.labels.tolist() == [0] * 4 + [1] * 4
    assert large.samples.images.shape == (3, SIZE, SIZE)  # brought to the real images' kind
    assert all(member.labelled for member in found.members)
    assert array.facts == {"licence": "CC0", "epochs": 3}
    assert found.facts["name"] == "pool"
    assert seen[-1] == (3, 3)
    assert len(set(found.contents)) == 4
    assert read_pool(pool).contents == found.contents
    with Image.open(pool / "fake" / "Folder" / "ill" / "01.png") as image:
        np.testing.assert_array_equal(folder.samples.images[5], np.asarray(image))


def test_a_changed_image_changes_that_members_content_only(pool: Path) -> None:
    before = read_pool(pool).contents
    pictures(pool / "fake" / "Folder" / "ill", noise(1))
    after = read_pool(pool).contents
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, True, False, True]


def test_real_images_of_a_data_set_or_an_array(pool: Path) -> None:
    options = {"n_train": 24, "n_val": 12, "n_test": 12}
    dataset = load_dataset("phantom", options=options)
    with pytest.raises(DataError, match="real images do not have: they have normal, opacity"):
        read_pool(pool, dataset=dataset)
    dataset = replace(dataset, class_names=("healthy", "ill"))
    found = read_pool(pool, dataset=dataset)
    assert found.real.key == dataset.train.key
    assert found.members[0].samples.images.shape == (5, 32, 32)
    assert found.facts["key"] == dataset.key
    shutil.rmtree(pool / "real")
    with pytest.raises(DataError, match=r"has no real images.*--data"):
        read_pool(pool)
    assert is_image_pool(pool)
    names = np.array(["healthy", "ill"])
    np.savez(pool / "real.npz", images=noise(4), labels=np.array([1, 0, 0, 1]), class_names=names)
    samples, classes, _ = read_real(pool, image_size=8)
    assert samples.images.shape == (4, 8, 8)
    assert classes == ("healthy", "ill")
    assert read_pool(pool).members[1].samples.labels.sum() == 4


def test_a_generator_without_classes_is_said_to_have_none(pool: Path) -> None:
    pictures(pool / "fake" / "Flat", noise(3))
    np.save(pool / "fake" / "Bare.npy", noise(3))
    labelled = {member.name: member.labelled for member in read_pool(pool).members}
    assert labelled == {"Array": True, "Bare": False, "Flat": False, "Folder": True, "Large": True}
    shutil.rmtree(pool / "real")
    pictures(pool / "real", noise(6))
    found = read_pool(pool)  # now nobody has classes
    assert found.class_names == ("image",)
    assert all(member.labelled for member in found.members)
    assert all(not member.samples.labels.any() for member in found.members)


def test_what_ensgan_wrote_itself_is_a_member(pool: Path) -> None:
    """A folder made by ``ensgan sample``: class folders with a number, and labels.csv."""
    folder = pool / "fake" / "Sampled"
    pictures(folder / "0_healthy", noise(2))
    pictures(folder / "1_ill", noise(1))
    rows = [
        "file,label,class,member",
        "0_healthy/00.png,0,healthy,A",
        "0_healthy/01.png,0,healthy,A",
    ]
    (folder / "labels.csv").write_text("\n".join([*rows, "1_ill/00.png,1,ill,A"]))
    (sampled,) = [m for m in read_pool(pool).members if m.name == "Sampled"]
    assert sampled.samples.labels.tolist() == [0, 0, 1]
    (folder / "labels.csv").write_text("\n".join(["file,label", "0_healthy/00.png,0"]))
    with pytest.raises(DataError) as caught:
        read_pool(pool)
    assert "0_healthy/01.png has no row" in str(caught.value)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"images": noise(3).astype(np.float32), "labels": np.zeros(3, int)}, "must be uint8"),
    ({"images": noise(3), "labels": np.zeros(2, int)}, "labels must be 3 integers"),
    (
        {"images": noise(3), "labels": np.array([0, 1, 2])},
        r"labels are 0…2, but the classes are 0…1",
    ),
    ({"images": noise(3), "labels": np.array([0.5, 1, 1])}, "labels must be 3 integers"),
    ({"pictures": noise(3)}, "lacks images; it has pictures"),
    ({"images": np.array([{}, 1], dtype=object)}, "Object arrays cannot be loaded"),
    ({"images": noise(0)}, "must be uint8"),
]


@pytest.mark.parametrize(("arrays", "message"), BAD)
def test_arrays_that_cannot_be_used(pool: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(pool / "fake" / "Bad.npz", **arrays)
    with pytest.raises(DataError, match=message) as caught:
        read_pool(pool)
    assert "Bad.npz" in str(caught.value)


def test_names_and_places_that_are_refused(pool: Path, tmp_path: Path) -> None:
    def refused(message: str) -> None:
        with pytest.raises(DataError, match=message):
            read_pool(pool)

    extra = pictures(pool / "fake" / "Array", noise(2))
    refused(r"holds Array and Array.npz: keep one")
    (extra / "00.png").unlink(), (extra / "01.png").unlink(), extra.rmdir()
    bad = pictures(pool / "fake" / "a b", noise(1))
    refused("'a b' cannot name a generator")
    bad.rename(pool / "fake" / "Empty")
    (pool / "fake" / "Empty" / "00.png").unlink()
    refused("Empty holds no images")
    (pool / "fake" / "Empty").rmdir()
    other = pictures(pool / "fake" / "Other" / "odd", noise(1)).parent
    refused(r"has the classes odd, which the real images do not have: they have healthy, ill")
    pictures(other, noise(1))
    refused("holds class folders, but these images are in none")
    shutil.rmtree(other)
    outside = pictures(tmp_path / "outside", noise(1))
    (pool / "fake" / "Link").symlink_to(outside)
    refused("a link that leads out of the pool")
    (pool / "fake" / "Link").unlink()
    (pool / "fake" / "Array.json").write_text("[1]")
    refused("must hold one JSON object")
    shutil.rmtree(pool / "fake")
    refused("holds no generators")


def test_features_are_not_taken_for_images(tmp_path: Path) -> None:
    np.save(tmp_path / "real.npy", np.zeros((4, 8)))
    np.save(tmp_path / "A.npy", np.zeros((4, 8)))
    assert not is_image_pool(tmp_path)
    assert not is_image_pool(tmp_path / "real.npy")


def test_class_names_of_the_real_set_must_differ(pool: Path) -> None:
    shutil.rmtree(pool / "real")
    for names, message in ((["a", "A"], "several classes are called"), (["a", " "], "has no name")):
        np.savez(pool / "real.npz", images=noise(4), labels=np.arange(4) % 2, class_names=names)
        with pytest.raises(DataError, match=rf"real.npz: class_names: .*{message}|{message}"):
            read_pool(pool)


def test_labels_of_a_generator_follow_its_own_class_names(pool: Path) -> None:
    given = {"images": noise(3), "labels": np.array([0, 0, 1])}
    np.savez(pool / "fake" / "Own.npz", **given, class_names=np.array(["ill", "healthy"]))
    (own,) = [member for member in read_pool(pool).members if member.name == "Own"]
    assert own.samples.labels.tolist() == [1, 1, 0]
    np.savez(pool / "fake" / "Own.npz", **given, class_names=np.array(["ill", "odd"]))
    with pytest.raises(DataError, match="its class_names are ill, odd"):
        read_pool(pool)


def test_folders_of_splits_are_no_classes(pool: Path) -> None:
    shutil.rmtree(pool / "real")
    for split in ("train", "test"):
        pictures(pool / "real" / split / "healthy", noise(3))
    with pytest.raises(DataError, match="holds folders of splits: name the folder of one split"):
        read_pool(pool)


def test_images_that_cannot_be_read_are_refused(pool: Path) -> None:
    (pool / "fake" / "Folder" / "ill" / "x.heic").write_bytes(b"x")
    with pytest.raises(DataError, match=r"1 file was left out as it cannot be read: 1 × \.heic"):
        read_pool(pool)
