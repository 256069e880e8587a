"""A sweep of generators from elsewhere alone: real stages in a second or two, nothing trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml


def write_banks(folder: Path, names: str = "ABC", size: int = 16) -> None:
    """An ``.npz`` of labelled images per name."""
    labels = np.arange(24, dtype=np.int64) % 2
    for shift, name in enumerate(names):
        noise = np.random.default_rng(shift).integers(0, 60, (24, size, size))
        images = 40 + 30 * shift + 80 * labels[:, None, None] + noise
        np.savez(folder / f"{name}.npz", images=images.astype(np.uint8), labels=labels)


def write_bank_sweep(folder: Path, name: str = "banks", **sections: object) -> Path:
    """The sweep's file and its banks in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_banks(folder)
    options = {"n_train": 24, "n_val": 12, "n_test": 12}
    tree = {
        "name": name,
        "seed": 3,
        "dataset": {"name": "phantom", "image_size": 16, "options": options},
        "train": {"gans": []},
        "members": [{"name": bank, "images": f"{bank}.npz"} for bank in "ABC"],
        "search": {"trials": 20},
        "evaluate": {
            "strategies": ["real", "all", "selected"],
            "repeats": 1,
            "epochs": 1,
            "width": 4,
        },
        **sections,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path
