"""Numbers that are none, or beyond any range, end in a sentence whatever option they are for.

The walk finds options by their type: a new one is tried without a line here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from ensgan.cli.app import COMMANDS, app, load_command
from ensgan.config import parse_spec
from ensgan.errors import ConfigError, EnsganError

ODD = ("nan", "inf", "-inf", "-1", str(2**63), "9" * 25, "9" * 5000, "٣x")
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "zoo": (),
    "score": ("f.npz", "-o", "again.npz"),
    "search": ("s.npz", "-o", "again.json", "--trials", "5"),
    "select": ("front.json", "--scores", "s.npz"),
    "prdc": ("real.npy", "fake.npy"),
    "bank": ("g.py:images", "--pool", "pool", "--name", "P", "-n", "20"),
    "bundle": ("front.json", "pool", "-o", "bundle", "--scores", "s.npz"),
    "sample": ("ensemble", "-o", "z.npz", "-n", "4"),
    "runs": ("--storage", "st"),
    "init": ("--data", "absent/", "-o", "i.yaml"),
    "data check": ("absent/",),
    "evaluate": ("absent",),
    "study": ("absent", "-o", "study.html"),
    "serve": ("absent",),
    "ui": ("--storage", "st"),
    "sweep": ("absent.yaml",),
    "logs": ("absent", "--storage", "st"),
    "budget": ("absent", "--storage", "st"),
    "status": ("absent", "--storage", "st"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scored features, a front, and generators' images."""
    here = tmp_path_factory.mktemp("numbers")
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(40, 4)), rng.normal(size=(3, 30, 4))
    np.savez(here / "f.npz", real=real, fake=fake, names=np.array(["a", "b", "c"]))
    np.save(here / "real.npy", real)
    np.save(here / "fake.npy", fake[0])
    (here / "pool" / "fake").mkdir(parents=True)
    images, labels = rng.integers(0, 255, (20, 16, 16), dtype=np.uint8), np.arange(20) % 2
    np.savez(here / "pool" / "real.npz", images=images, labels=labels)
    (here / "g.py").write_text("import numpy as np\ndef images(n, labels, seed): return 1 / 0\n")
    for words in (("score", "f.npz", "-o", "s.npz", "--resamples", "3"),
                  ("search", "s.npz", "-o", "front.json", "--trials", "20")):  # fmt: skip
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(here)
            assert CliRunner().invoke(app, list(words)).exit_code == 0
    return here


def numbers(name: str) -> Iterator[str]:
    """The options of a command that take a number."""
    first, _, second = name.partition(" ")
    command = load_command(first)
    for option in (command.commands[second] if second else command).params:
        kind: Any = getattr(option, "type_descriptor", None)
        words = str(getattr(kind, "annotation", ""))
        if option.opts[0].startswith("-") and ("int" in words or "float" in words):
            yield max(option.opts, key=len)


def test_every_command_with_numbers_is_tried() -> None:
    groups = {"data": ("check",)}
    names = {f"{name} {sub}".strip() for name in COMMANDS for sub in groups.get(name, ("",))}
    assert {name for name in names if any(numbers(name))} <= set(ARGUMENTS)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_odd_numbers_end_in_a_sentence(
    name: str, place: Path, banks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    given = [str(banks) if word == "ensemble" else word for word in ARGUMENTS[name]]
    for option in numbers(name):
        words = list(given)
        if option in words:
            at = words.index(option)
            del words[at : at + 2]
        for odd in ODD:
            attached = [f"{option}={odd}"] if option.startswith("--") else [option, odd]
            result = CliRunner().invoke(app, [*name.split(), *words, *attached])
            error = result.exception
            assert error is None or isinstance(error, EnsganError | SystemExit), (
                f"{name} {option}={odd[:30]}: {error!r}"
            )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 10**12, 2**63, 10**400])
def test_every_number_of_a_sweep_file_has_bounds(value: float) -> None:
    def sections(fields: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
        for name, field in fields.items():
            inner = getattr(field.annotation, "model_fields", None)
            if inner:
                yield from sections(inner, (*path, name))
            elif field.annotation in (int, float, int | None, float | None):
                yield (*path, name)

    from ensgan.config import SweepSpec

    for path in sections(SweepSpec.model_fields):
        tree: dict[str, Any] = {"name": "n", "dataset": {"name": "phantom"}}
        part = tree
        for step in path[:-1]:
            part = part.setdefault(step, {})
        part[path[-1]] = value
        with pytest.raises(ConfigError, match=r"\.".join(path)):
            parse_spec(tree)
