from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ensgan.config import load_spec, parse_spec
from ensgan.errors import ConfigError

KNOWN = {
    "dataset": ("phantom", "pneumoniamnist"),
    "GAN": ("SNGAN", "SAGAN", "ACGAN-Mod"),
    "extractor": ("random", "swav"),
    "sampler": ("ensemble", "tpe"),
    "form of the objectives": ("paper", "frechet"),
    "rule": ("knee", "max-size"),
    "strategy": ("real", "random", "selected"),
}
GOOD = {"name": "s", "dataset": {"name": "phantom"}}


def problems(tree: dict) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse_spec(tree, known=KNOWN)
    return caught.value.problems


def test_minimal_spec_has_the_papers_defaults() -> None:
    spec = parse_spec(GOOD, known=KNOWN)
    assert (spec.train.steps, spec.train.snapshots, spec.score.k) == (100_000, 5, 5)
    assert (spec.evaluate.repeats, spec.search.trials, spec.select.rule) == (20, 1000, "validated")
    assert (spec.search.objectives, spec.score.classes) == ("capped", "joint")


def test_all_problems_are_reported_at_once() -> None:
    found = problems(
        {
            "name": "s",
            "dataset": {"name": "pneumonia"},
            "train": {"gans": ["SNGA"], "steps": 100, "snapshots": 3, "widht": 1},
            "embed": {"extractor": "swa"},
            "score": {"k": "five"},
            "search": {
                "sampler": "tpee",
                "min_size": 5,
                "max_size": 3,
                "objectives": "fid",
                "third": "size",
            },
            "select": {"width": 8},
            "evaluate": {"strategies": ["reel", "random:5"]},
            "sede": 3,
        }
    )
    text = "\n".join(found)
    for expected in (
        "did you mean 'pneumoniamnist'",
        "did you mean 'SNGAN'",
        "3 snapshots do not divide 100 steps",
        "train.widht: unknown key: did you mean 'width'?",
        "select.width: is no longer a setting, for rule validated trains no networks",
        "did you mean 'swav'",
        "score.k:",
        "not 'five'",
        "did you mean 'tpe'",
        "max_size 3 is below min_size 5",
        "search.objectives:",
        "search.third:",
        "did you mean 'real'",
        "sede: unknown key: did you mean 'seed'?",
    ):
        assert expected in text
    assert "random" not in text


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"dataset": {"name": "phantom"}}, "name: is required"),
        ({"name": "a/b", "dataset": {"name": "phantom"}}, "name:"),
        ({**GOOD, "train": {"gans": ["SNGAN", "SNGAN"]}}, "repeated GANs: SNGAN"),
        ({**GOOD, "train": {"gans": []}}, "names no GAN"),
        ({**GOOD, "train": {"steps": 2.5}}, "train.steps:"),
        ({**GOOD, "train": {"overrides": {"SNGAM": {}}}}, "did you mean 'SNGAN'"),
        ({**GOOD, "train": {"overrides": {"SNGAN": {"btach": 3}}}}, "did you mean 'batch'"),
        ({**GOOD, "search": {"min_size": 1}}, "search.min_size:"),
    ],
)
def test_one_problem_one_sentence(tree: dict, expected: str) -> None:
    (problem,) = problems(tree)
    assert expected in problem


def test_a_mapping_without_end_is_a_sentence() -> None:
    deep: object = 1
    for _ in range(5000):
        deep = {"a": deep}
    assert problems({**GOOD, "train": {"gans": ["SNGAN"], "vary": {"width": [deep]}}}) == (
        "is nested too deeply",
    )


def test_dataset_may_be_a_path() -> None:
    assert parse_spec({**GOOD, "dataset": {"name": "./mine.npz"}}, known=KNOWN)


def test_settings_override_and_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(GOOD))
    spec = load_spec(path, settings=["train.steps=10", "train.gans=[SAGAN]"], known=KNOWN)
    assert spec.train.steps == 10 and spec.train.gans == ["SAGAN"]
    with pytest.raises(ConfigError) as caught:
        load_spec(path, settings=["train.steps", "name.x=1", "train.step=5"], known=KNOWN)
    text = str(caught.value)
    assert "write it as dotted.key=value" in text and "'name' is a value" in text
    assert "did you mean 'steps'" in text


@pytest.mark.parametrize(
    ("content", "expected"), [("a: [", "is not YAML"), ("- 1", "must be a mapping")]
)
def test_broken_files(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=expected):
        load_spec(path)
    with pytest.raises(ConfigError, match="no such file"):
        load_spec(tmp_path / "absent.yaml")


def test_config_error_survives_a_process_border() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(ConfigError("f", ["a", "b"])))
    assert error.problems == ("a", "b") and str(error).startswith("f: 2 problems")
