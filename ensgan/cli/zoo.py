"""``ensgan zoo``: the GANs and their sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ensgan.cli.output import JsonOption, emit


def zoo(
    image_size: Annotated[int, typer.Option(help="Side of the square images in pixels.")] = 32,
    channels: Annotated[int, typer.Option(help="1 for grey, 3 for RGB.")] = 1,
    classes: Annotated[int, typer.Option(help="Number of classes of the data.")] = 2,
    width: Annotated[float, typer.Option(help="Factor on every channel count.")] = 1.0,
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
    from ensgan.zoo.footprint import footprint

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
        "problems": spec.problems(shape, classes),
    }
    sizes = footprint(spec, shape, classes) if not row["problems"] else None
    row["generator_parameters"] = sizes.generator_parameters if sizes else None
    row["discriminator_parameters"] = sizes.discriminator_parameters if sizes else None
    row["training_memory_bytes"] = sizes.training_bytes if sizes else None
    return row


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title=f"{len(rows)} GANs")
    for column in ("GAN", "backbone", "conditioning", "loss", "further parts"):
        table.add_column(column, no_wrap=column == "GAN")
    for column in ("G", "D", "memory"):
        table.add_column(column, justify="right")
    for row in rows:
        further = [*row["regularizers"]]
        further += [] if row["augmentation"] == "NoAugment" else [row["augmentation"]]
        conditioning = row["conditioning"] + (f" + {row['twin']}" if row["twin"] else "")
        sizes = (
            [", ".join(row["problems"]), "", ""]
            if row["problems"]
            else [
                f"{row['generator_parameters']:,}",
                f"{row['discriminator_parameters']:,}",
                f"{row['training_memory_bytes'] / 1e9:.2f} GB",
            ]
        )
        table.add_row(
            row["name"],
            row["backbone"],
            conditioning,
            row["adversarial"],
            ", ".join(further) or "–",
            *sizes,
        )
    table.caption = "G, D: trainable parameters. Memory: estimated peak of training at the batch."
    return table
