"""Folders of images: which folder is a class, which is a split, and their order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from folders import picture

from ensgan.data import load_dataset
from ensgan.data.folder import class_order
from ensgan.errors import DataError


def layout(root: Path, *folders: str, count: int = 12) -> Path:
    for folder in folders:
        for index in range(count):
            picture(root / folder / f"{index}.png", (16, 16))
    return root


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("train/a", "test/a", "unlabelled"), "holds the splits test, train and beside them unlab"),
        (("train/a", "control"), "holds the splits train and beside them control"),
        (("xrays/train/a", "xrays/test/a"), "called like splits.*\n  - xrays/test\n  - xrays/tr"),
        (("a/train", "a/test", "b/train"), "called like splits"),
        (("train/a/test", "test/a"), "called like splits.*\n  - train/a/test"),
        (("train/a", "training/a", "test/a"), "keep one folder per split"),
        (("train/a", "train/b"), "no image is in the split test"),
    ],
)
def test_splits_and_classes_that_cannot_both_be_meant_are_refused(
    tmp_path: Path, folders: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DataError, match=f"(?s){message}"):
        load_dataset(layout(tmp_path, *folders), image_size=16)


def test_test_images_are_not_trained_on_under_other_names_of_splits(tmp_path: Path) -> None:
    layout(tmp_path, "Training_set/a", "Training_set/b")
    layout(tmp_path, "test-data/a", "test-data/b", count=5)
    (tmp_path / "notes").mkdir()  # no images: neither split nor class
    dataset = load_dataset(tmp_path, image_size=16)
    assert dataset.class_names == ("a", "b")
    assert len(dataset.test) == 10 and len(dataset.train) + len(dataset.val) == 24
    assert all(name.startswith("test-data/") for name in dataset.files["test"])
    rows = [f"{path.relative_to(tmp_path)},{path.parent.name}" for path in tmp_path.rglob("*.png")]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *rows]))
    with pytest.raises(DataError, match="the table does not name their split: add a column split"):
        load_dataset(tmp_path, image_size=16)


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (["10", "9", "1", "0", "2"], ["0", "1", "2", "9", "10"]),
        (["stage 10", "stage 2", "stage 1"], ["stage 1", "stage 2", "stage 10"]),
        (["1.5", "-1", "10", "0.25"], ["-1", "0.25", "1.5", "10"]),
        (["b", "a", "C"], ["C", "a", "b"]),
        (["x2y10", "x2y9", "x10y1"], ["x2y9", "x2y10", "x10y1"]),
        (["²", "1", "10"], ["1", "10", "²"]),
        (["1" * 5000, "2", "a"], ["2", "1" * 5000, "a"]),
    ],
)
def test_classes_have_one_natural_order(names: list[str], ordered: list[str]) -> None:
    assert list(class_order(set(names))) == ordered


def test_numeric_class_folders_keep_their_numbers(tmp_path: Path) -> None:
    for label in range(12):
        for index in range(4):
            picture(tmp_path / str(label) / f"{index}.png", (16, 16), value=20 * label)
    dataset = load_dataset(tmp_path, image_size=16)
    assert dataset.class_names == tuple(map(str, range(12)))
    for image, label in zip(dataset.train.images, dataset.train.labels, strict=True):
        assert image[0, 0] == 20 * label


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("Normal", "normal"), "several classes are called"),
        (("caf\u00e9", "cafe\u0301"), "several classes are called"),
        (("1", "\uff11"), "several classes are called"),
        (("1", "01"), "the classes 01 and 1 are one number|the classes 1 and 01 are one number"),
        (("1", "1.0"), "are one number"),
        (("0", "nan"), "'nan' is no class"),
        (("a", "b\x1b[31m"), "control characters"),
    ],
)
def test_classes_that_are_one_are_refused(
    tmp_path: Path, labels: tuple[str, str], message: str
) -> None:
    layout(tmp_path, "images", count=24)
    rows = [f"images/{index}.png,{labels[index % 2]}" for index in range(24)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *rows]))
    with pytest.raises(DataError, match=message):
        load_dataset(tmp_path, image_size=16)


def test_a_class_folder_that_is_not_utf_8_is_refused_and_a_file_is_read(tmp_path: Path) -> None:
    layout(tmp_path, "a", "b")
    picture(tmp_path / os.fsdecode(b"a/l\xe4sion.png"), (16, 16))
    dataset = load_dataset(tmp_path, image_size=16)
    assert sum(map(len, dataset.splits().values())) == 25
    assert "a/l\\xdce4sion.png" in sum(dataset.files.values(), ())
    (tmp_path / "b").rename(tmp_path / os.fsdecode(b"l\xe4sion"))
    with pytest.raises(DataError, match=r"'l\\udce4sion' holds control characters or bytes that"):
        load_dataset(tmp_path, image_size=16)


def test_table_names_may_lack_their_ending_or_folder(tmp_path: Path) -> None:
    layout(tmp_path, "images", count=24)
    names = ["images/{}", "{}", "images/{}.png", "{}.png"]
    rows = [f"{names[i % 4].format(i)},{'ab'[i % 2]}" for i in range(24)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *rows]))
    assert sum(map(len, load_dataset(tmp_path, image_size=16).splits().values())) == 24
    picture(tmp_path / "more" / "1.png", (16, 16))
    with pytest.raises(DataError, match=r"several files are called 1: images/1.png, more/1.png"):
        load_dataset(tmp_path, image_size=16)
