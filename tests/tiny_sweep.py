"""A sweep small enough to run in tests: two GANs, four members, made-up images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

TINY: dict[str, Any] = {
    "name": "tiny",
    "seed": 7,
    "dataset": {
        "name": "phantom",
        "options": {"n_train": 160, "n_val": 60, "n_test": 60},
    },
    "train": {
        "gans": ["SNGAN", "ACGAN-Mod"],
        "steps": 6,
        "snapshots": 2,
        "width": 0.03125,
        "batch": 8,
        "d_updates": 1,
        "resume_every": 1,
    },
    "search": {"sampler": "ensemble", "trials": 40},
    "evaluate": {
        "strategies": ["real", "best-single", "all", "selected"],
        "repeats": 2,
        "epochs": 1,
        "width": 4,
    },
}


def tiny(**sections: Any) -> dict[str, Any]:
    """The tiny sweep with some sections' values replaced."""
    tree = {**TINY}
    for name, value in sections.items():
        merge = isinstance(value, dict) and name in tree
        tree[name] = {**tree[name], **value} if merge else value
    return tree


def write_sweep(folder: Path, **sections: Any) -> Path:
    """Write the tiny sweep as a file."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny(**sections)))
    return path


def files_of(folder: Path, *parts: str) -> dict[str, int]:
    """Files below some folders of a sweep, with their modification times."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for part in parts
        for path in sorted((folder / part).rglob("*"))
        if path.is_file() and path.name != "heartbeat.json"
    }
