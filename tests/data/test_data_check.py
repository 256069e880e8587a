"""The report on a data set: counts, duplicates, leakage, and the command that prints it."""

from __future__ import annotations

import io
import json
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ensgan.cli import app
from ensgan.data import DATASETS, Option, Source, check, load_dataset, names
from ensgan.data.duplicates import exact_pairs, near_pairs, thumbnails
from ensgan.data.request import Request
from ensgan.errors import ConfigError, InputError
from ensgan.registry import Registry
from ensgan.types import Dataset, Samples

run = CliRunner()


def made(seed: int = 0, counts: tuple[int, int, int] = (30, 10, 10)) -> dict[str, Samples]:
    rng = np.random.default_rng(seed)
    return {
        split: Samples(rng.integers(0, 256, (count, 16, 16), dtype=np.uint8), np.arange(count) % 2)
        for split, count in zip(("train", "val", "test"), counts, strict=True)
    }


def dataset(splits: dict[str, Samples]) -> Dataset:
    return Dataset("made", **splits, class_names=("a", "b"), licence="CC0")


def test_a_sound_set_has_no_problems() -> None:
    report = check(dataset(made()))
    assert report.problems == ()
    assert report.splits["train"].classes == {"a": 15, "b": 15}
    assert sum(report.splits["val"].intensity.histogram) == 10 * 16 * 16
    assert report.near is not None
    assert sum(report.near.within.values()) + sum(report.near.across.values()) == 0
    assert json.loads(json.dumps(report.to_json()))["licence"] == "CC0"


def test_intensities_are_those_numpy_computes() -> None:
    data = dataset(made())
    intensity = check(data).splits["test"].intensity
    pixels = data.test.images
    assert intensity.mean == pytest.approx(pixels.mean(), abs=1e-3)
    assert intensity.std == pytest.approx(pixels.std(), abs=1e-3)
    assert (intensity.minimum, intensity.maximum) == (pixels.min(), pixels.max())
    assert intensity.percentiles["50"] == pytest.approx(np.median(pixels), abs=1)


def test_leaks_contradictions_blanks_and_empty_classes_are_problems() -> None:
    splits = made()
    splits["test"].images[:3] = splits["train"].images[5:8]  # labels 0,1,0 against 1,0,1
    splits["val"].images[4] = 7
    splits["val"] = Samples(splits["val"].images, np.zeros(10, np.int64))
    splits["train"].images[29] = splits["train"].images[28]
    report = check(dataset(splits))
    text = " | ".join(report.problems)
    assert report.exact.across == {"train/val": 0, "train/test": 3, "val/test": 0}
    assert report.exact.within == {"train": 1, "val": 0, "test": 0}
    assert report.exact.other_label == 4
    assert report.exact.examples[0] == ("train[5]", "test[0]")
    assert "3 images of train/test are the same" in text
    assert "4 pairs of equal images have different labels" in text
    assert "val has 1 blank image " in text
    assert "val has no image of class b" in text


def test_near_duplicates_survive_brightness_contrast_noise_and_size() -> None:
    splits = {
        name: Samples(images.images, images.labels)
        for name, images in load_dataset(
            "phantom", options={"n_train": 60, "n_val": 12, "n_test": 12}
        )
        .splits()
        .items()
    }
    rng = np.random.default_rng(0)
    altered = splits["train"].images[:4] * 0.8 + 20 + rng.normal(0, 2, (4, 32, 32))
    splits["test"].images[2:6] = np.clip(altered, 0, 255).astype(np.uint8)
    near = check(dataset(splits)).near
    assert near is not None
    assert near.across["train/test"] == 4
    assert set(near.examples[:4]) == {(f"train[{i}]", f"test[{i + 2}]") for i in range(4)}


def test_near_pairs_equal_brute_force() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(40, 64))
    vectors = np.repeat(base, 8, axis=0) + rng.normal(0, 0.09, (320, 64))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    pairs = near_pairs(vectors, 0.99)
    first, second = np.nonzero(np.triu(vectors @ vectors.T >= 0.99, 1))
    assert len(first) > 100
    assert set(zip(pairs.first, pairs.second, strict=True)) == set(zip(first, second, strict=True))
    assert len(near_pairs(vectors, 0.99, limit=10)) == 10


def test_flat_images_have_no_near_duplicates_and_thumbnails_unit_length() -> None:
    images = np.full((3, 20, 20), 9, np.uint8)
    assert len(near_pairs(thumbnails(images))) == 0
    assert len(exact_pairs(images)) == 2
    rgb = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 3), dtype=np.uint8)
    np.testing.assert_allclose(np.linalg.norm(thumbnails(rgb), axis=1), 1, rtol=1e-5)


def test_the_real_set_shows_its_known_duplicates(shared: Path) -> None:
    data = load_dataset(shared / "data" / "pneumoniamnist.npz")
    start = time.process_time()
    report = check(data)
    assert time.process_time() - start < 10
    raw = np.load(shared / "data" / "pneumoniamnist.npz")
    train = {image.tobytes() for image in raw["train_images"]}
    shared_images = sum(image.tobytes() in train for image in raw["val_images"])
    assert report.exact.across["train/val"] == shared_images > 0


def test_the_command_prints_a_table_and_one_json_object(tmp_path: Path) -> None:
    small = [part for split in ("val", "test") for part in ("--option", f"n_{split}=12")]
    shown = run.invoke(app, ["data", "check", "phantom", "--option", "n_train=40", *small])
    assert shown.exit_code == 0, shown.output
    assert "opacity" in shown.output
    assert "no problems found" in shown.output
    result = run.invoke(app, ["data", "check", "phantom", "--json", *small])
    assert json.loads(result.stdout)["splits"]["train"]["images"] == 1200


def test_the_list_has_every_data_set() -> None:
    listed = json.loads(run.invoke(app, ["data", "list", "--json"]).stdout)
    assert tuple(listed) == names()
    assert listed["phantom"]["options"]["n_train"] == 1200


def test_the_command_accepts_a_checksum_by_flag_and_environment(tmp_path: Path) -> None:
    arrays = {}
    for split, samples in made().items():
        arrays |= {f"{split}_images": samples.images, f"{split}_labels": samples.labels}
    arrays["test_images"][0] = 7  # a blank image is a problem, but no leak
    np.savez(tmp_path / "breastmnist.npz", **arrays)
    base = ["data", "check", "breastmnist", "--data-dir", str(tmp_path), "--no-near"]
    assert type(run.invoke(app, base).exception).__name__ == "IntegrityError"
    assert run.invoke(app, [*base, "--accept-checksum", "any"]).exit_code == 0
    assert run.invoke(app, base, env={"ENSGAN_ACCEPT_CHECKSUM": "any"}).exit_code == 0
    strict = run.invoke(app, [*base, "--accept-checksum", "any", "--strict"])
    assert strict.exit_code == 1


@pytest.mark.parametrize("option", ["n_train", "n_train=[1]", "=3"])
def test_malformed_options_are_refused(option: str) -> None:
    result = run.invoke(app, ["data", "check", "phantom", "--option", option])
    assert "--option" in str(result.exception)


def test_files_are_named_and_leaks_end_in_exit_code_1(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 4)):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(count):
                image = Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8))
                image.save(tmp_path / split / name / f"{index}.png")
    command = ["data", "check", str(tmp_path), "--option", "val_share=0", "--image-size", "16"]
    assert run.invoke(app, command).exit_code == 0
    shutil.copy(tmp_path / "train" / "b" / "7.png", tmp_path / "test" / "b" / "2.png")
    result = run.invoke(app, command)
    assert result.exit_code == 1
    assert "share images" in str(result.exception)
    said = " ".join(result.output.split())
    assert "train: train/b/7.png = test: test/b/2.png" in said
    examples = json.loads(run.invoke(app, [*command, "--json"]).stdout)["exact"]["examples"]
    assert examples == [["train: train/b/7.png", "test: test/b/2.png"]]


def test_source_sizes_and_patients_are_counted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for index in range(24):
        folder = tmp_path / "ab"[index % 2]
        folder.mkdir(exist_ok=True)
        shape = (30, 20) if index < 18 else (12, 12)
        image = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
        image.save(folder / f"p{index // 4}_{index}.png")
    command = ["data", "check", str(tmp_path), "--image-size", "16", "--no-near"]
    known = ["--option", r"patient_pattern=(p\d+)_"]
    for _ in range(2):  # decoded, and from the cache
        value = json.loads(run.invoke(app, [*command, *known, "--json"]).stdout)
        assert value["source_sizes"] == {"20×30": 18, "12×12": 6}
        assert sum(split["patients"] for split in value["splits"].values()) == 6
        assert value["splits"]["train"]["images"] == 4 * value["splits"]["train"]["patients"]
    shown = run.invoke(app, [*command, *known]).stdout
    assert "made of 20×30 (18), 12×12 (6)" in shown and "patients" in shown
    assert "6 images are smaller than 16×16 pixels and are enlarged" in shown
    assert "18 images were not square" in shown and "are not known" not in shown
    unknown = json.loads(run.invoke(app, [*command, "--json"]).stdout)
    assert unknown["splits"]["train"]["patients"] is None
    assert any("patients are not known" in note for note in unknown["notes"])


def test_ten_classes_are_shown_whole_in_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    names = tuple(f"a long class name {index}" for index in range(10))
    labels = np.repeat(np.arange(10), 1234)
    rng = np.random.default_rng(0)
    samples = Samples(rng.integers(0, 256, (len(labels), 8, 8), dtype=np.uint8), labels)
    data = Dataset("made", samples, samples, samples, names)
    from rich.console import Console

    from ensgan.cli.catalogue import _table

    console = Console(width=80, record=True, file=io.StringIO())
    console.print(_table(check(data, near=False)))
    lines = console.export_text().splitlines()
    assert all(len(line) <= 80 for line in lines)
    for name in names:
        (line,) = [line for line in lines if name in line and "1,234" in line]
        assert line.count("1,234") == 3


def test_a_data_set_of_an_installed_package_is_one_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(request: Request) -> Dataset:
        rng = np.random.default_rng(request.seed)
        images = rng.integers(0, 256, (30, request.image_size, request.image_size), dtype=np.uint8)
        split = Samples(images, np.arange(30) % 2)
        return Dataset(request.name, split, split, split, ("a", str(request.option("other"))))

    source = Source("mine", "for this test", load, (Option("other", str, "b", "a class"),), False)
    registry = Registry("data set", "ensgan.datasets", Source, list(DATASETS))
    registry.register(source)
    monkeypatch.setattr("ensgan.data.registry.DATASETS", registry)
    assert load_dataset("mine", options={"other": "c"}).class_names == ("a", "c")
    with pytest.raises(ConfigError, match="did you mean 'other'"):
        load_dataset("mine", options={"othr": "c"})


@pytest.mark.parametrize("source", DATASETS, ids=lambda source: source.name)
def test_every_data_set_describes_itself(source: Source) -> None:
    assert source.summary and source.name == source.name.lower()
    names = [option.name for option in source.options]
    assert len(set(names)) == len(names)
    for option in source.options:
        assert option.summary
        assert option.default is None or option.problem(option.default) is None
        if option.kind is float:
            assert "finite" in str(option.problem(float("nan")))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["organmnist3d"], "is a set of volumes: ensgan works on 2-D images"),
        (["x" * 300], "unknown data set"),
        (["my-xray"], "no such folder or file here"),
        (["/tmp/" + "x" * 300], "no such file or folder"),
        (["phantom", "--option", "n_train=1000000000000000"], "GB of memory but"),
        (["phantom", "--option", "n_train=2020-99-99"], "holds a value that cannot be read"),
        (["phantom", "--data-dir", "x"], ""),
        (["folder", "--data-dir", "x" * 300], "is not a folder"),
        (["folder", "--option", "val_share=.nan"], "must be a finite number|folder"),
    ],
)
def test_odd_words_end_in_one_sentence(words: list[str], message: str, tmp_path: Path) -> None:
    small = [part for split in ("val", "test") for part in ("--option", f"n_{split}=12")]
    phantom = [*small, "--option", "n_train=40"] if words == ["phantom", "--data-dir", "x"] else []
    environment = {"ENSGAN_DATA": str(tmp_path)}
    result = run.invoke(app, ["data", "check", *words, *phantom, "--no-near"], env=environment)
    if message:
        assert isinstance(result.exception, InputError), result.output
        assert re.search(message, str(result.exception))
    else:
        assert result.exit_code == 0
