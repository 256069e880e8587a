from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import as_json, call

from ensgan.cli.sample import parse_labels
from ensgan.ensemble import load_ensemble
from ensgan.ensemble.export import save_images
from ensgan.errors import InputError


def test_sample_to_png_with_labels(banks: Path, tmp_path: Path) -> None:
    value = as_json("sample", banks, "--labels", "0:3,1:2", "-o", tmp_path / "png")
    assert value["images"] == 5
    assert sum(value["by"].values()) == 5
    assert len(list((tmp_path / "png" / "0_normal").glob("*.png"))) == 3
    assert len(list((tmp_path / "png" / "1_pneumonia").glob("*.png"))) == 2
    assert (tmp_path / "png" / "labels.csv").is_file()


def test_sample_to_dicom(banks: Path, tmp_path: Path) -> None:
    as_json("sample", banks, "-n", 3, "-o", tmp_path / "dicom", "--format", "dicom")
    assert len(list((tmp_path / "dicom").rglob("*.dcm"))) == 3
    for form, output in (("npz", "x"), ("dicom", "x.npz"), ("jpeg", "x")):
        with pytest.raises(InputError, match="--format"):
            call("sample", banks, "-n", 3, "-o", tmp_path / output, "--format", form)


@pytest.mark.parametrize(
    ("text", "labels"), [("0", [0]), ("0,1, 1", [0, 1, 1]), ("1:3,0:2,1", [1, 1, 1, 0, 0, 1])]
)
def test_labels(text: str, labels: list[int]) -> None:
    assert parse_labels(text, None) == labels
    assert parse_labels(text, len(labels)) == labels


@pytest.mark.parametrize(
    ("text", "n"), [("", None), ("-1", None), ("0:x", None), ("0:", None), ("0,1", 3)]
)
def test_bad_labels(text: str, n: int | None) -> None:
    with pytest.raises(InputError):
        parse_labels(text, n)


def test_a_huge_request_is_refused_before_memory_is_taken() -> None:
    with pytest.raises(InputError, match="more than 10 million"):
        parse_labels("0:999999999999", None)


def test_outputs_that_would_destroy_something(banks: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.npz"
    np.savez(mine, images=np.zeros((3, 8, 8), np.uint8), labels=np.zeros(3))
    content = mine.read_bytes()
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "notes.txt").write_text("mine")
    places = ((mine, "exists already: .* --force"), (tmp_path / "pool", "exists already"))
    for output, match in places:
        with pytest.raises(InputError, match=match):
            call("sample", banks, "-n", 3, "-o", output)
    assert mine.read_bytes() == content and (tmp_path / "pool" / "notes.txt").exists()
    as_json("sample", banks, "-n", 3, "-o", mine, "--force")
    with pytest.raises(InputError, match="--force"):  # its own output neither
        call("sample", banks, "-n", 4, "-o", mine)
    assert len(np.load(mine)["images"]) == 3


def test_classes_by_name(banks: Path, tmp_path: Path) -> None:
    as_json("sample", banks, "--labels", "pneumonia:2,0,normal:1", "-o", tmp_path / "s.npz")
    assert np.load(tmp_path / "s.npz")["labels"].tolist() == [1, 1, 0, 0]
    with pytest.raises(InputError, match="unknown class 'pneumona': did you mean 'pneumonia'"):
        call("sample", banks, "--labels", "pneumona:2", "-o", tmp_path / "t.npz")


def test_a_folder_of_images_is_whole_or_absent(
    banks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0

    def killed(*_: object) -> None:
        nonlocal written
        written += 1
        if written == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ensgan.ensemble.export.write_png", killed)
        with pytest.raises(KeyboardInterrupt):
            load_ensemble(banks).save_png(tmp_path / "out", 8)
    assert list(tmp_path.iterdir()) == []
    as_json("sample", banks, "-n", 8, "-o", tmp_path / "out")


def test_names_are_no_formulas(banks: Path, tmp_path: Path) -> None:
    ensemble = load_ensemble(banks)
    names = ("=HYPERLINK(1)", "@SUM(A1)")
    save_images(tmp_path / "out", ensemble.sample(4, [0, 1, 0, 1]), names, seed=0, ensemble="x")
    table = (tmp_path / "out" / "labels.csv").read_text()
    assert ",'=HYPERLINK(1)," in table and ",'@SUM(A1)," in table
