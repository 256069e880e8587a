#!/usr/bin/env python3
"""Write scikit-learn's digits as a file of MedMNIST form: 32 × 32 pixels, ten classes.

Usage: scripts/digits.py FOLDER     writes FOLDER/digits.npz

The 1,797 images of 8 × 8 pixels (UCI, test part of "Optical Recognition of Handwritten Digits",
CC BY 4.0) are enlarged by bicubic interpolation. Sixty per cent are train, the rest val and test
alike, with the classes in equal shares.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SIZE, SEED = 32, 0


def write(folder: Path) -> Path:
    """Write the file; its path."""
    small, labels = load_digits(return_X_y=True)
    grey = (small.reshape(-1, 8, 8) * (255 / 16)).round().astype(np.uint8)
    images = np.stack(
        [np.asarray(Image.fromarray(each).resize((SIZE, SIZE), Image.BICUBIC)) for each in grey]
    )
    train, rest = train_test_split(
        np.arange(len(labels)), train_size=0.6, stratify=labels, random_state=SEED
    )
    val, test = train_test_split(rest, train_size=0.5, stratify=labels[rest], random_state=SEED)
    arrays = {}
    for name, rows in (("train", train), ("val", val), ("test", test)):
        arrays[f"{name}_images"] = images[rows]
        arrays[f"{name}_labels"] = labels[rows, None].astype(np.int64)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "digits.npz"
    np.savez_compressed(path, **arrays)
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    print(write(parser.parse_args().folder))
