"""Folders of images: layouts, formats, tables, splits and what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from folders import RNG, picture
from PIL import Image

from ensgan.data import load_dataset
from ensgan.data.image_set import read_images
from ensgan.data.levels import to_8_bit
from ensgan.data.prepare import Box, Job, Preparation, cut_square, make_square, prepare
from ensgan.data.table import read_table
from ensgan.errors import DataError


def test_class_folders_get_seeded_splits(classes: Path) -> None:
    dataset = load_dataset(classes)
    assert dataset.name == "set"
    assert dataset.class_names == ("covid", "healthy")
    sizes = [len(split) for split in dataset.splits().values()]
    assert sum(sizes) == 32
    for split, share in zip(dataset.splits().values(), (0.7, 0.1, 0.2), strict=True):
        counts = np.bincount(split.labels, minlength=2)
        assert np.all(np.abs(counts - share * np.array([12, 20])) <= 1.5)
    again = load_dataset("folder", root=classes)
    assert again.key == dataset.key
    assert load_dataset(classes, seed=1).key != dataset.key


def test_split_folders_are_followed(tmp_path: Path) -> None:
    for split, count in (("train", 6), ("valid", 2), ("Test", 3)):
        for label in ("a", "b"):
            for index in range(count):
                picture(tmp_path / split / label / f"{index}.png")
    dataset = load_dataset(tmp_path)
    assert [len(split) for split in dataset.splits().values()] == [12, 4, 6]
    import shutil

    shutil.rmtree(tmp_path / "valid")
    dataset = load_dataset(tmp_path, options={"val_share": 0.3})
    assert len(dataset.test) == 6
    assert len(dataset.train) + len(dataset.val) == 12
    assert len(dataset.val) in (3, 4)


def test_a_table_names_labels_splits_and_patients(tmp_path: Path) -> None:
    rows = ["file;label;split;patient"]
    for index in range(12):
        picture(tmp_path / "images" / f"{index}.png")
        split = ("train", "train", "val", "test")[index % 4]
        rows.append(f"images/{index}.png;{10 if index % 3 else 9};{split};q{index}")
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(rows), encoding="utf-8-sig")
    dataset = load_dataset(tmp_path)
    assert dataset.class_names == ("9", "10")  # numbers in numerical order
    assert [len(split) for split in dataset.splits().values()] == [6, 3, 3]
    table.write_text("\n".join(rows).replace("q1\n", "q2\n").replace("q3\n", "q0\n"))
    with pytest.raises(DataError, match="one patient are in two splits") as caught:
        load_dataset(tmp_path)
    assert "images/0.png (train)" in str(caught.value)
    assert "q0" not in str(caught.value)


def test_patients_stay_together(classes: Path) -> None:
    load = {"patient_pattern": r"^(p\d+_[a-z]+)"}
    dataset = load_dataset(classes, options=load, image_size=36)
    split_of: dict[bytes, str] = {
        image.tobytes(): name for name, split in dataset.splits().items() for image in split.images
    }
    seen: dict[str, set[str]] = {}
    for path in classes.glob("*/*.png"):
        patient = path.parent.name + path.name.split("_")[0]
        seen.setdefault(patient, set()).add(split_of[np.asarray(Image.open(path)).tobytes()])
    assert len(seen) == 16
    assert all(len(splits) == 1 for splits in seen.values())
    with pytest.raises(DataError, match="finds no patient"):
        load_dataset(classes, options={"patient_pattern": r"^(x\d+)"})


def test_every_format_gives_the_same_picture(
    tmp_path: Path, write_dicom: Callable[..., Path]
) -> None:
    pixels = np.kron(RNG.integers(0, 256, (16, 16)), np.ones((4, 4))).astype(np.uint8)
    pixels[0, 0], pixels[-1, -1] = 0, 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    Image.fromarray(np.repeat(pixels[..., None], 3, 2)).save(tmp_path / "grey_as_rgb.png")
    Image.fromarray(pixels).convert("P").save(tmp_path / "palette.png")
    Image.fromarray(pixels.astype(np.uint16) * 257).save(tmp_path / "wide.png")
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=98)
    np.save(tmp_path / "a.npy", pixels)
    np.save(tmp_path / "wide.npy", pixels.astype(np.uint16) * 257)
    np.save(tmp_path / "unit.npy", pixels / 255)
    np.save(tmp_path / "thick.npy", pixels[..., None])
    write_dicom(
        tmp_path / "a.dcm", pixels.astype(np.uint16) * 16, WindowCenter=2040.5, WindowWidth=4081
    )
    write_dicom(tmp_path / "noending", pixels, bits=8, WindowCenter=128, WindowWidth=256)
    expected = prepare(Job(tmp_path / "a.png"), Preparation(16)).image
    for path in sorted(tmp_path.iterdir()):
        window = "full" if "wide" in path.name else "auto"
        image = prepare(Job(path), Preparation(16, window=window)).image
        tolerance = 6 if path.suffix == ".jpg" else 1
        np.testing.assert_allclose(image.astype(int), expected, atol=tolerance, err_msg=path.name)


def test_wide_pictures_are_windowed_by_percentiles() -> None:
    values = RNG.integers(300, 2000, (50, 50)).astype(np.uint16)
    low, high = np.percentile(values, (2, 98))
    expected = np.clip((values - low) / (high - low), 0, 1) * 255
    np.testing.assert_allclose(to_8_bit(values, "auto"), expected, atol=0.51)
    np.testing.assert_allclose(to_8_bit(values.astype(np.float32), "auto"), expected, atol=0.51)
    eight = RNG.integers(50, 90, (50, 50)).astype(np.uint8)
    np.testing.assert_array_equal(to_8_bit(eight, "auto"), eight)
    assert to_8_bit(eight, "percentile").max() == 255
    assert to_8_bit(np.full((4, 4), 9, np.uint16), "auto").max() == 0


def test_fits_and_boxes() -> None:
    wide = np.zeros((4, 8), np.uint8)
    wide[:, 2:6] = 200
    assert make_square(wide, "crop").min() == 200
    padded = make_square(wide, "pad")
    assert padded.shape == (8, 8)
    np.testing.assert_array_equal(padded[2:6], wide)
    assert padded[:2].max() == padded[6:].max() == 0
    assert make_square(wide, "stretch").shape == (4, 8)
    tall = make_square(wide.T, "pad")
    np.testing.assert_array_equal(tall[:, 2:6], wide.T)
    ramp = np.arange(100, dtype=np.uint8).reshape(10, 10)
    np.testing.assert_array_equal(cut_square(ramp, Box(2, 3, 6, 7), 0), ramp[3:7, 2:6])
    np.testing.assert_array_equal(cut_square(ramp, Box(2, 3, 6, 7), 0.25), ramp[2:8, 1:7])
    corner = cut_square(ramp, Box(0, 0, 2, 4), 0)
    np.testing.assert_array_equal(corner, np.pad(ramp[:4, :3], ((0, 0), (1, 0))))
    for box in (Box(5, 5, 5, 8), Box(20, 0, 30, 10), Box(-5, 0, -1, 3)):
        with pytest.raises(DataError, match="box"):
            cut_square(ramp, box, 0)


def test_the_resampling_is_antialiased(tmp_path: Path) -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (512, 256))
    Image.fromarray(stripes).save(tmp_path / "a.png")
    image = prepare(Job(tmp_path / "a.png"), Preparation(32)).image
    assert np.abs(image.astype(int) - 127.5).max() < 4


def test_rgb_and_mixtures(classes: Path) -> None:
    colour = np.zeros((20, 20, 3), np.uint8)
    colour[..., 1] = 200
    Image.fromarray(colour).save(classes / "covid" / "colour.png")
    with pytest.raises(DataError, match=r"1 of 33 are RGB \(covid/colour.png\)"):
        load_dataset(classes)
    assert load_dataset(classes, options={"channels": 1}).shape.channels == 1
    assert load_dataset(classes, options={"channels": 3}).train.images.shape[3] == 3


def test_all_unusable_files_are_listed_at_once(classes: Path, own_cache: Path) -> None:
    (classes / "covid" / "empty.png").write_bytes(b"")
    good = (classes / "covid" / "p0_covid_0.png").read_bytes()
    (classes / "covid" / "cut.png").write_bytes(good[: len(good) // 2])
    np.save(classes / "covid" / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(classes / "covid" / "cube.npy", np.zeros((3, 3, 3, 3)))
    np.save(classes / "covid" / "nan.npy", np.full((3, 3), np.nan))
    frames = [Image.new("L", (8, 8), value) for value in (0, 9)]
    frames[0].save(classes / "covid" / "two.tif", save_all=True, append_images=frames[1:])
    (classes / "healthy" / "bad.dcm").write_text("x" * 300)
    with pytest.raises(DataError) as caught:
        load_dataset(classes)
    message = str(caught.value)
    for part in (
        "7 of 39 images cannot be used",
        "covid/empty.png",
        "covid/cut.png cannot be read as an image",
        "covid/objects.npy cannot be read as .npy",
        "covid/cube.npy has shape [3, 3, 3, 3]",
        "covid/nan.npy holds values that are not finite",
        "covid/two.tif has 2 frames",
        "healthy/bad.dcm is not a DICOM file",
    ):
        assert part in message
    assert not list(own_cache.rglob("*.npz"))  # nothing half-cached


def test_the_layout_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no image files"):
        load_dataset(tmp_path)
    picture(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png") as caught:
        load_dataset(tmp_path)
    assert "CLASS/image" in str(caught.value)
    (tmp_path / "a.png").unlink()
    picture(tmp_path / "one" / "a.png")
    (tmp_path / "two").mkdir()
    with pytest.raises(DataError, match="hold no images:\n  - two"):
        load_dataset(tmp_path)
    picture(tmp_path / "two" / "b.png")
    with pytest.raises(DataError, match="class 'one' has 1 patients or images"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("name", ["labels.tsv", "Labels.CSV", "labels.xlsx"])
def test_a_label_table_of_another_kind_is_not_passed_over(name: str, tmp_path: Path) -> None:
    for index in range(24):
        picture(tmp_path / "images" / f"{index}.png")
    rows = [f"{index}.png\t{'ab'[index % 2]}" for index in range(24)]
    (tmp_path / name).write_text("\n".join(["file\tlabel", *rows]))
    if name.endswith("xlsx"):  # read, too: here it is none
        with pytest.raises(DataError, match=r"labels\.xlsx"):
            load_dataset(tmp_path, image_size=16)
        return
    assert load_dataset(tmp_path, image_size=16).class_names == ("a", "b")
    assert read_images(tmp_path, tmp_path, 16, None)[1].names == ("a", "b")
    (tmp_path / "labels.xlsx").touch()
    with pytest.raises(DataError, match="holds several label tables"):
        load_dataset(tmp_path, image_size=16)


def test_tables_and_images_must_fit_together(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for index in range(4):
        picture(root / f"{index}.png")
    picture(tmp_path / "outside.png")
    (root / "notes.txt").write_text("x")
    lines = ["file,label,split", "0.png,a,train", "0.png,a,train", "9.png,a,train", "1.png,,train"]
    lines += ["../outside.png,a,train", "2.png,a,dev", "notes.txt,a,train", ",a,train"]
    (root / "labels.csv").write_text("\n".join(lines))
    with pytest.raises(DataError) as caught:
        load_dataset(root)
    for part in (
        "0.png is named twice",
        "9.png does not exist",
        "1.png has no label",
        "../outside.png leads out of the folder",
        "2.png is in split 'dev'",
        "notes.txt is no image file",
        "a row has no file name",
        "3.png has no row in the table",
    ):
        assert part in str(caught.value)
    (root / "labels.csv").write_text("name,class\n0.png,a\n")
    with pytest.raises(DataError, match=r"lacks the columns file, label; .*file_column=NAME"):
        load_dataset(root)


def test_a_row_that_is_longer_than_the_header_is_refused(tmp_path: Path) -> None:
    """As an unquoted separator makes one: the rest of the class would be lost."""
    path = tmp_path / "labels.csv"
    path.write_text("file,label\n0.png,no\n1.png,effusion, left\n")
    with pytest.raises(DataError, match=r"the row '1\.png, effusion, left' has more cells"):
        read_table(path)
    path.write_text('file,label\n0.png,no,,\n1.png,"effusion, left"\n')
    assert [row["label"] for row in read_table(path).rows] == ["no", "effusion, left"]


def test_links_out_of_the_folder_are_refused(classes: Path, tmp_path: Path) -> None:
    outside = picture(tmp_path / "elsewhere" / "secret.png")
    (classes / "covid" / "link.png").symlink_to(outside)
    (classes / "more").symlink_to(outside.parent)
    (classes / "loop").symlink_to("loop")
    with pytest.raises(DataError) as caught:
        load_dataset(classes)
    assert "covid/link.png is a link that leads out" in str(caught.value)
    assert "more is a link that leads out" in str(caught.value)
    assert "loop is a link that leads out" in str(caught.value)


def test_the_whole_file_system_is_no_data_set() -> None:
    with pytest.raises(DataError, match="/ is the whole file system: name the folder of"):
        load_dataset("/")


def test_the_second_run_reads_the_cache_and_a_change_is_seen(
    classes: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ensgan.data import image_files

    first = load_dataset(classes)
    files = list(own_cache.rglob("*.npz"))
    assert len(files) == 1
    calls: list[Job] = []
    plain = image_files.prepare

    def counted(job: Job, preparation: Preparation, turns: object) -> object:
        calls.append(job)
        return plain(job, preparation, turns)

    monkeypatch.setattr(image_files, "prepare", counted)
    assert load_dataset(classes).key == first.key
    assert not calls
    files[0].write_bytes(files[0].read_bytes()[:50])  # a damaged cache is made anew
    assert load_dataset(classes).key == first.key
    assert len(calls) == 32
    picture(classes / "covid" / "p0_covid_0.png")
    assert load_dataset(classes).key != first.key
    assert len(calls) == 64
    load_dataset(classes, options={"cache": False})
    assert len(calls) == 96


def test_a_cache_that_cannot_be_written_does_not_stop_the_work(
    classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("x")
    monkeypatch.setenv("ENSGAN_CACHE", str(blocked))
    assert len(load_dataset(classes).train) > 0


def test_every_image_knows_its_file(classes: Path) -> None:
    dataset = load_dataset(classes, image_size=36)
    for name, split in dataset.splits().items():
        for image, label, file in zip(split.images, split.labels, dataset.files[name], strict=True):
            np.testing.assert_array_equal(image, np.asarray(Image.open(classes / file)))
            assert dataset.class_names[label] == Path(file).parent.name


def test_a_pattern_that_does_not_end_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ensgan.data.folder._PATTERN_SECONDS", 1.0)
    for label in "ab":
        picture(tmp_path / label / f"{'a' * 45}0.png")
    with pytest.raises(DataError, match="still searching 2 file names after 1 s"):
        load_dataset(tmp_path, options={"patient_pattern": "(a|aa)+$"})


def test_a_table_that_is_a_pipe_is_refused(classes: Path) -> None:
    os.mkfifo(classes / "labels.csv")
    with pytest.raises(DataError, match="is no plain file"):
        load_dataset(classes)
