"""``ensgan zoo``: the GANs and their sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from ensgan.cli.output import LARGEST_SIDE, FittingTable, JsonOption, emit


def zoo(
    image_size: Annotated[
        int, typer.Option(min=8, max=LARGEST_SIDE, help="Side of the square images in pixels.")
    ] = 32,
    channels: Annotated[int, typer.Option(min=1, max=16, help="1 for grey, 3 for RGB.")] = 1,
    classes: Annotated[
        int, typer.Option(min=1, max=1000, help="Number of classes of the data.")
    ] = 2,
    width: Annotated[float, typer.Option(max=4, help="Factor on every channel count.")] = 1.0,
    plugin: Annotated[
        list[Path] | None, typer.Option(help="Python file with rows of your own; repeatable.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """List the GANs with their parts, parameter counts and training memory.

    Example: ensgan zoo --channels 3 --classes 7
    """
    from ensgan.zoo import load_plugin, names

    for path in plugin or []:
        load_plugin(path)
    rows = [_row(name, image_size, channels, classes, width) for name in names()]
    value = {
        "image_size": image_size,
        "channels": channels,
        "classes": classes,
        "width": width,
        "gans": rows,
    }
    emit(value, as_json=json, table=lambda: _table(rows))


def _row(name: str, image_size: int, channels: int, classes: int, width: float) -> dict[str, Any]:
    from ensgan.types import ImageShape
    from ensgan.zoo import get
    from ensgan.zoo.build import footprint

    spec = get(name).scaled(width)
    shape = ImageShape(channels, image_size)
    conditioning = spec.conditioning.to_json()
    twin = conditioning.get("twin", {"part": "NoTwin"})["part"]
    row: dict[str, Any] = {
        "name": name,
        "backbone": type(spec.backbone).__name__,
        "conditioning": type(spec.conditioning).__name__,
        "twin": None if twin == "NoTwin" else twin,
        "adversarial": type(spec.adversarial).__name__,
        "regularizers": [type(part).__name__ for part in spec.regularizers],
        "augmentation": type(spec.augmentation).__name__,
        "ema": type(spec.ema).__name__,
        "batch": spec.optimiser.batch,
        "d_updates_per_step": spec.optimiser.d_updates_per_step,
        "settings": get(name).settings(),  # what a sweep can vary
        "problems": spec.problems(shape, classes),
    }
    sizes = footprint(spec, shape, classes) if not row["problems"] else None
    row["generator_parameters"] = sizes.generator_parameters if sizes else None
    row["discriminator_parameters"] = sizes.discriminator_parameters if sizes else None
    row["training_memory_bytes"] = sizes.training_bytes if sizes else None
    return row


def _table(rows: list[dict[str, Any]]) -> Group:
    """The rows, within 80 columns, and below them why some cannot be built for this data."""
    table = FittingTable(
        *("GAN", "backbone", "cond.", "loss, parts", "G", "D", "GB"),
        title=f"{len(rows)} GANs",
        spare=("D", "backbone", "cond.", "G", "loss, parts", "GB"),
        wraps=("loss, parts",),
    )
    for row in rows:
        conditioning = _SHORT.get(row["conditioning"], row["conditioning"])
        augmentation = [] if row["augmentation"] == "NoAugment" else [row["augmentation"]]
        table.add_row(
            row["name"],
            row["backbone"],
            f"{conditioning}+{row['twin']}" if row["twin"] else conditioning,
            ", ".join([row["adversarial"], *row["regularizers"], *augmentation]),
            *_sizes(row),
        )
    return Group(table, *(Text(line) for line in (*_impossible(rows), _LEGEND)))


def _sizes(row: dict[str, Any]) -> tuple[str, str, str]:
    if row["problems"]:
        return "–", "–", "–"
    return (
        f"{row['generator_parameters']:,}",
        f"{row['discriminator_parameters']:,}",
        f"{row['training_memory_bytes'] / 1e9:.2f}",
    )


def _impossible(rows: list[dict[str, Any]]) -> list[str]:
    """One sentence per broken rule, with the GANs that break it."""
    broken: dict[str, list[str]] = {}
    for row in rows:
        for problem in row["problems"]:
            broken.setdefault(problem, []).append(row["name"])
    return [f"not for this data: {', '.join(names)}: {rule}" for rule, names in broken.items()]


_SHORT = {
    "Projection": "PD",
    "AuxiliaryClassifier": "AC",
    "Contrastive": "2C",
    "MultiHingeClasses": "MH",
}
_LEGEND = (
    "G, D: trainable parameters. GB: estimated peak of training at the row's batch.\n"
    "cond.: PD projection, AC auxiliary classifier, 2C contrastive, MH multi-hinge."
)
