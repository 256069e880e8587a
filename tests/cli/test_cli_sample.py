from __future__ import annotations

from pathlib import Path

import pytest
from commands import as_json, call

from ensgan.cli.sample import parse_labels
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
    ("text", "n"), [("", None), ("a", None), ("-1", None), ("0:x", None), ("0:", None), ("0,1", 3)]
)
def test_bad_labels(text: str, n: int | None) -> None:
    with pytest.raises(InputError):
        parse_labels(text, n)


def test_a_huge_request_is_refused_before_memory_is_taken() -> None:
    with pytest.raises(InputError, match="more than 10 million"):
        parse_labels("0:999999999999", None)
