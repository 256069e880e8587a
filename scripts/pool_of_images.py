#!/usr/bin/env python3
"""Write a recorded pool's images as banks, and the sweep file of them.

Usage: scripts/pool_of_images.py IMAGES.npz FOLDER     writes FOLDER/study-images.yaml and banks

IMAGES.npz has ``names`` (members), ``images`` (members × images × height × width, grey levels) and
``labels`` (members × images). Banks know no snapshots, so ``GAN@STEP`` becomes ``GAN-STEP``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import yaml


def write(images: Path, folder: Path) -> Path:
    """Write the banks and the sweep file; the file's path."""
    with np.load(images) as pool:
        names = [str(name).replace("@", "-") for name in pool["names"]]
        members = list(zip(names, pool["images"], pool["labels"], strict=True))
    banks = folder / "banks"
    banks.mkdir(parents=True, exist_ok=True)
    for name, pictures, labels in members:
        np.savez_compressed(banks / f"{name}.npz", images=pictures, labels=labels.astype(np.int64))
    tree = {
        "name": "study-images",
        "seed": 0,
        "dataset": {
            "name": "pneumoniamnist",
            "image_size": members[0][1].shape[-1],
            "options": {"accept_checksum": "any"},
        },
        "train": {"gans": []},
        "members": [{"name": name, "images": f"banks/{name}.npz"} for name in names],
        "embed": {"extractor": "random"},
        "evaluate": {"strategies": []},
    }
    path = folder / "study-images.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    print(write(args.images, args.folder))
