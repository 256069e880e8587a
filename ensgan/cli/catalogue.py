"""Before a sweep: data sets (``ensgan data``) and GANs (``ensgan zoo``) to look at."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from ensgan.cli.output import LARGEST_SIDE, FittingTable, JsonOption, emit, progress, whole
from ensgan.errors import EnsganError, InputError
from ensgan.text import counted

if TYPE_CHECKING:
    from ensgan.data import DataReport
    from ensgan.data.request import Scalar

SizeOption: TypeAlias = Annotated[
    int,
    typer.Option(
        "--image-size", min=8, max=LARGEST_SIDE, help="Side the images are brought to, pixels."
    ),
]
DataDirOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder of the files; default: ENSGAN_DATA, ~/.medmnist."),
]
AcceptOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--accept-checksum",
        envvar="ENSGAN_ACCEPT_CHECKSUM",
        help="MD5 or SHA-256 of a file to accept instead of the official one, or 'any'.",
    ),
]
SettingOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="KEY=VALUE", help="A setting under dataset.options."),
]

data = typer.Typer(add_completion=False, no_args_is_help=True, help="Look at data sets.")

_SHOWN_PAIRS = 6
_SHOWN_SIZES = 4
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


@data.command("list")
def list_sets(json: JsonOption = False) -> None:
    """List the data sets a sweep can name, with their options.

    Example: ensgan data list
    """
    from ensgan.data import DATASETS

    def table() -> FittingTable:
        wrapped = ("what", "options")
        shown = FittingTable("name", *wrapped, spare=("options",), wraps=wrapped)
        for source in DATASETS:
            shown.add_row(source.name, source.summary, ", ".join(o.name for o in source.options))
        return shown

    value = {
        source.name: {
            "summary": source.summary,
            "options": {option.name: option.default for option in source.options},
        }
        for source in DATASETS
    }
    emit(value, as_json=json, table=table)


@data.command()
def check(
    data: Annotated[
        str, typer.Argument(metavar="NAME|DIR|FILE.npz", help="A data set by name or by path.")
    ],
    data_dir: DataDirOption = None,
    image_size: SizeOption = 32,
    accept_checksum: AcceptOption = None,
    option: SettingOption = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Seed of random splits and drawn images.")
    ] = 0,
    near: Annotated[
        bool, typer.Option("--near/--no-near", help="Look for near duplicates as well.")
    ] = True,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 when there are problems.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show splits, classes, sizes, intensities, duplicates, hashes and licence of a data set.

    Exits with 1 when an image is in two splits, with --strict on any problem.

    Example: ensgan data check pneumoniamnist --data-dir ~/data
    """
    from ensgan.data import check as check_dataset
    from ensgan.data import load_dataset

    options = parse_options(option or [], accept_checksum)
    with progress("reading", "images") as report_progress:
        dataset = load_dataset(
            data,
            root=data_dir,
            image_size=image_size,
            options=options,
            seed=seed,
            on_progress=report_progress,
        )
    report = check_dataset(dataset, near=near)
    emit(report.to_json(), as_json=json, table=lambda: _table(report))
    if strict and report.problems:
        raise EnsganError(f"{data} has {counted(len(report.problems), 'problem')} (see above)")
    if report.leaks:
        raise EnsganError(f"the splits of {data} share images (see above): take them out of one")


def parse_options(texts: list[str], accept_checksum: str | None = None) -> dict[str, Scalar]:
    """``KEY=VALUE`` texts, the values read as YAML scalars, and the checksum as one of them.

    Raises:
        InputError: a text of another form.
    """
    from ensgan.config import read_setting

    options: dict[str, Scalar] = {}
    for text in texts:
        key, value = read_setting(text, "--option")
        if isinstance(value, (dict, list)):
            raise InputError(f"--option '{text}': the value must be a number, word or flag")
        # Other words stay as they were written: a date, for example.
        as_written = text.partition("=")[2] or None
        options[key] = value if isinstance(value, (bool, int, float)) else as_written
    if accept_checksum is not None:
        options["accept_checksum"] = accept_checksum
    return options


def _table(report: DataReport) -> RenderableType:
    spare = ("blank", "sd", "mean")
    known = [] if report.splits["train"].patients is None else ["patients"]
    table = FittingTable("split", "images", *known, *reversed(spare), spare=spare, lined=True)
    for name, split in report.splits.items():
        level = split.intensity
        counts = (f"{split.images:,}", *([f"{split.patients:,}"] if known else []))
        table.add_row(name, *counts, f"{level.mean:.1f}", f"{level.std:.1f}", f"{split.blank:,}")
    # One row per class, because a column for each would not fit.
    classes = FittingTable("class", *report.splits)
    for name in report.class_names:
        row = [f"{split.classes[name]:,}" for split in report.splits.values()]
        classes.add_row(name, *row)
    kind = "grey" if report.channels == 1 else "RGB"
    size = report.image_size
    lines = [
        f"{report.name}: {size}×{size} {kind}{_sizes(report)}",
        f"licence: {report.licence or 'unknown'}",
        f"source: {report.source or 'unknown'}",
        f"key: {report.key}",
    ]
    lines += [
        f"{name} histogram: {_bars(split.intensity.histogram)}"
        for name, split in report.splits.items()
    ]
    duplicates_of = {"equal": report.exact}
    if report.near:
        duplicates_of["nearly equal"] = report.near
    for label, duplicates in duplicates_of.items():
        pairs = {**duplicates.within, **duplicates.across}
        lines.append(f"{label} pairs: " + ", ".join(f"{k} {n}" for k, n in pairs.items()))
        lines += [f"  {a} = {b}" for a, b in duplicates.examples[:_SHOWN_PAIRS]]
    lines += [f"problem: {problem}" for problem in report.problems] or ["no problems found"]
    lines += [f"note: {text}" for text in report.notes]
    return Group(table, "", classes, "", *map(whole, lines))


def _sizes(report: DataReport) -> str:
    """The sizes of the images before they were scaled."""
    sizes = report.source_sizes
    if not sizes:
        return ""
    if len(sizes) <= _SHOWN_SIZES:
        shown = ", ".join(f"{size} ({count:,})" for size, count in sizes.items())
        return f", made of {shown}"
    by_area = sorted(sizes, key=lambda size: math.prod(map(int, size.split("×"))))
    return f", made of {len(sizes)} sizes from {by_area[0]} to {by_area[-1]}"


def _bars(histogram: tuple[int, ...]) -> str:
    """Counts as a row of bars."""
    blocks = " ▁▂▃▄▅▆▇█"
    top = max(histogram) or 1
    return "".join(blocks[round(8 * count / top)] for count in histogram)


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
    emit(value, as_json=json, table=lambda: _gan_table(rows))


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
        "settings": get(name).settings(),  # what a sweep can vary
        "problems": spec.problems(shape, classes),
    }
    sizes = footprint(spec, shape, classes) if not row["problems"] else None
    row["generator_parameters"] = sizes.generator_parameters if sizes else None
    row["discriminator_parameters"] = sizes.discriminator_parameters if sizes else None
    row["training_memory_bytes"] = sizes.training_bytes if sizes else None
    return row


def _gan_table(rows: list[dict[str, Any]]) -> Group:
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
            *_gan_sizes(row),
        )
    return Group(table, *(Text(line) for line in (*_impossible(rows), _LEGEND)))


def _gan_sizes(row: dict[str, Any]) -> tuple[str, str, str]:
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
