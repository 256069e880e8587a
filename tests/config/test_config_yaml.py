"""The gate for YAML: odd texts end in one sentence that names the file, and soon."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ensgan.config import load_spec
from ensgan.config.load import MAX_TEXT, read_tree, read_yaml
from ensgan.errors import ConfigError, shown

BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "stands for more than 100,000 values"),
        ("a: &a [*a]", "is nested deeper|stands for more"),
        ("a: &a {b: *a}", "is nested deeper|stands for more"),
        ("<<: &m {a: 1}\nb: {<<: [*m, *m], c: *m}", ""),
        ("a: " + "[" * 2000 + "]" * 2000, "is nested deeper than 50 levels"),
        ("a: " + "{b: " * 60 + "1" + "}" * 60, "is nested deeper than 50 levels"),
        ("a: 1\nb: 2\na: 3", "the key 'a' occurs twice"),
        ("a: {b: 1, b: 1}", "the key 'b' occurs twice"),
        ("a: 2020-99-99", "a value that cannot be read: month must be"),
        ("a: !!bool x", "a value that cannot be read"),
        ('a: !!timestamp "x"', "a value that cannot be read"),
        ('a: !!int "x"', "a value that cannot be read"),
        ("a: !!python/object:os.system x", "is not YAML"),
        ("? [a, b]\n: c", "is not YAML"),
        ("a: 1\n---\nb: 2", "is not YAML"),
        ("a: \0", "is not YAML"),
        ("a: [", "is not YAML"),
    ],
)
def test_odd_yaml_is_one_sentence(text: str, message: str) -> None:
    start = time.process_time()
    if message:
        with pytest.raises(ConfigError, match=message) as caught:
            read_yaml(text, "odd.yaml")
        assert str(caught.value).startswith("odd.yaml: 1 problem")
        assert len(str(caught.value)) < 600
    else:
        assert read_yaml(text, "good.yaml")["b"] == {"a": 1, "c": {"a": 1}}
    assert time.process_time() - start < 2


def test_values_in_messages_are_short(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    nested = "".join(f"\n  - &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9))
    bomb = f"\n  - &a0 [x, x, x, x, x, x, x, x, x]{nested}"  # 9^9 words
    for value in ("0x" + "f" * 5000, "[" + "x, " * 30_000 + "x]", '"' + "x" * 50_000 + '"', bomb):
        path.write_text(f"name: q\nseed: {value}\ndataset: {{name: phantom}}\n")
        with pytest.raises(ConfigError, match=r"seed|aliases repeat") as caught:
            load_spec(path)
        assert len(str(caught.value)) < 600
    assert shown(16**5000) == "a number of thousands of digits"
    assert shown({"a": [1, 2]}) == "{'a': [1, 2]}"


def test_problems_in_messages_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(f"name: q\ndataset: {{name: phantom}}\ntrain: {{gans: {[0] * 300}}}\n")
    with pytest.raises(ConfigError, match=r"\n  - and 2\d\d more$") as caught:
        load_spec(path)
    assert len(caught.value.problems) >= 300
    tree = {"name": "q", "dataset": {"name": "phantom"}, "train": {"gans": ["x" * 9000]}}
    with pytest.raises(ConfigError, match=r"x…$") as caught:
        load_spec(tree, known={"GAN": ["SNGAN"]})
    assert len(str(caught.value)) < 1000


def test_numbers_of_a_sweep_are_finite(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    for value in (".nan", ".inf"):
        path.write_text(f"name: q\ndataset: {{name: phantom}}\ntrain: {{learning_rate: {value}}}\n")
        with pytest.raises(ConfigError, match=r"train.learning_rate: .*finite"):
            load_spec(path)


@pytest.mark.parametrize("value", ["2020-99-99", "[", "{a: 1, a: 2}", BOMB])
def test_settings_pass_the_same_gate(tmp_path: Path, value: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("name: q\ndataset: {name: phantom}\n")
    with pytest.raises(ConfigError, match="--set"):
        load_spec(path, settings=[f"seed={value}"])


def test_only_regular_files_of_bounded_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "long.yaml").write_text("a: 1\n" + "#" * MAX_TEXT)
    (tmp_path / "latin.yaml").write_bytes("a: läsion".encode("latin-1"))
    expected = {
        "pipe.yaml": "is no plain file",
        "long.yaml": "has more than the 1048576 bytes",
        "latin.yaml": "is not UTF-8 text",
        "absent.yaml": "no such file",
        "x" * 300: "no such file",
    }
    for name, message in expected.items():
        with pytest.raises(ConfigError, match=message):
            read_tree(tmp_path / name)


def test_volumes_are_not_taken_for_misspelt_images(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("name: q\ndataset: {name: organmnist3d}\n")
    with pytest.raises(
        ConfigError, match="is a set of volumes, but 2-D images are needed"
    ) as caught:
        load_spec(path, known={"dataset": ("organamnist",)})
    assert "did you mean" not in str(caught.value)
