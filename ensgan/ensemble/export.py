"""Images for other tools."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from ensgan.errors import InputError
from ensgan.files import atomic_path
from ensgan.types import Samples


def save_png(folder: Path, samples: Samples, class_names: Sequence[str]) -> Path:
    """Write a PNG folder per class and ``labels.csv`` (file, label, class, member).

    Raises:
        InputError: ``folder`` holds other files.
        StoreError: the disk cannot be written.
    """
    from PIL import Image

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty: name a new folder for the images")
    width = len(str(len(samples) - 1))
    rows = []
    for index, (image, label) in enumerate(zip(samples.images, samples.labels, strict=True)):
        name = class_names[label]
        place = f"{label}_{re.sub(r'[^A-Za-z0-9-]+', '_', name).strip('_') or 'class'}"
        file = f"{place}/{index:0{width}d}.png"
        member = "" if samples.members is None else samples.member_names[samples.members[index]]
        with atomic_path(folder / file) as temporary:
            Image.fromarray(image).save(temporary, format="PNG")
        rows.append((file, int(label), name, member))
    with (
        atomic_path(folder / "labels.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(("file", "label", "class", "member"))
        writer.writerows(rows)
    return folder
