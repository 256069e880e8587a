"""``ensgan init``: a first sweep file for some data on this machine, each value with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ensgan.cli.data import parse_options
from ensgan.cli.output import JsonOption, emit, progress

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ensgan.types import Dataset

_LIGHT = ("SNGAN", "SAGAN", "ACGAN-Mod")  # rows to begin with on a CPU
_SMALL_SET = 200  # training images below which a GAN mostly repeats them


@dataclass(frozen=True)
class Machine:
    """What training has at hand: CPU cores, GPUs and the memory of the smallest one in GB."""

    cores: int
    gpus: int = 0
    gpu_memory_gb: float = 0.0


@dataclass(frozen=True)
class Choice:
    """One value of the sweep file, by dotted key, and why it was chosen."""

    key: str
    value: Any
    reason: str = ""


def init(
    data: Annotated[
        str, typer.Option("--data", metavar="NAME|DIR|FILE.npz", help="The images to learn from.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write; default: NAME.yaml.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Folder of a named data set's files.")
    ] = None,
    image_size: Annotated[
        int, typer.Option("--image-size", help="Side of the images, pixels.")
    ] = 32,
    accept_checksum: Annotated[
        str | None,
        typer.Option(
            "--accept-checksum",
            envvar="ENSGAN_ACCEPT_CHECKSUM",
            help="MD5 or SHA-256 of a file to accept instead of the official one, or 'any'.",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="A setting under dataset.options."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    json: JsonOption = False,
) -> None:
    """Look at the data and this machine and write a first sweep file with reasons.

    Example: ensgan init --data my-xrays/
    """
    from ensgan.config import parse_spec
    from ensgan.data import check, load_dataset
    from ensgan.errors import InputError
    from ensgan.files import write_bytes
    from ensgan.pipeline.names import known_names

    options = parse_options(option or [])
    if accept_checksum is not None:
        options["accept_checksum"] = accept_checksum
    source = locate(data, data_dir, options)
    with progress("reading", "images") as report_progress:
        dataset = load_dataset(
            source["name"],
            root=None if source["data_dir"] is None else Path(source["data_dir"]),
            image_size=image_size,
            options=source["options"],
            on_progress=report_progress,
        )
    report = check(dataset, near=False)
    choices = propose(dataset, source, this_machine())
    text = to_yaml(choices)
    spec = parse_spec(to_tree(choices), source="the proposed sweep", known=known_names())
    path = output or Path(f"{spec.name}.yaml")
    if path.exists() and not force:
        raise InputError(f"{path} exists: name another file with -o, or overwrite it with --force")
    write_bytes(path, text.encode())
    value = {
        "path": str(path),
        "spec": to_tree(choices),
        "reasons": {choice.key: choice.reason for choice in choices if choice.reason},
        "problems": list(report.problems),
        "notes": list(report.notes),
    }
    emit(value, as_json=json, table=lambda: _shown(path, text, report.problems, report.notes))


def locate(
    data: str, data_dir: Path | None, options: dict[str, bool | int | float | str | None]
) -> dict[str, Any]:
    """How a sweep names the data: ``name``, ``data_dir`` and ``options`` of its dataset section.

    Raises:
        InputError: neither a registered name nor an existing folder or file.
    """
    from ensgan.data import names
    from ensgan.data.medmnist_table import parse_file_name
    from ensgan.errors import DataError, unknown_name

    if data in names():
        folder = None if data_dir is None else str(data_dir)
        return {"name": data, "data_dir": folder, "options": options}
    path = Path(data).expanduser()
    if path.is_dir():
        name = "aiforcovid" if _has_prognosis_table(path) else "folder"
        return {"name": name, "data_dir": str(path.resolve()), "options": options}
    if path.is_file() and path.suffix == ".npz":
        folder = str(path.resolve().parent)
        official = parse_file_name(path.name)
        if official is None:
            options = {"file": path.name, **options}
            return {"name": "npz", "data_dir": folder, "options": options}
        options = {"source_size": official[1], **options}
        return {"name": official[0], "data_dir": folder, "options": options}
    if "/" in data or path.exists():
        raise DataError(f"{path} is neither a folder nor an .npz file")
    raise DataError(unknown_name("data set", data, names()))


def _has_prognosis_table(folder: Path) -> bool:
    """Whether a table at the top has the columns of AIforCOVID."""
    from ensgan.data.table import SUFFIXES, read_table
    from ensgan.errors import DataError

    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES:
            continue
        try:
            columns = read_table(path).columns
        except DataError:
            continue
        if {"ImageFile", "Prognosis"} <= set(columns):
            return True
    return False


def this_machine() -> Machine:
    """The cores and GPUs this process may use."""
    import torch

    from ensgan.data.decode import available_cores

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    memory = [torch.cuda.get_device_properties(index).total_memory for index in range(count)]
    return Machine(available_cores(), count, min(memory, default=0) / 1e9)


def propose(dataset: Dataset, source: dict[str, Any], machine: Machine) -> list[Choice]:
    """The values of a first sweep, in the order of the file."""
    images, classes = len(dataset.train), dataset.num_classes
    kind = "grey" if dataset.shape.channels == 1 else "RGB"
    data = [
        Choice("name", _sweep_name(dataset.name, source)),
        Choice("seed", 0, "the same seed gives the same sweep"),
        Choice("dataset.name", source["name"], f"{images:,} training images, {classes} classes"),
        *([Choice("dataset.data_dir", source["data_dir"])] if source["data_dir"] else []),
        Choice("dataset.image_size", dataset.shape.size, f"{kind}, {_counts(dataset)}"),
        *(Choice(f"dataset.options.{key}", value) for key, value in source["options"].items()),
    ]
    return [*data, *_training(dataset, machine), *_proof(dataset, machine)]


def _rows(dataset: Dataset) -> tuple[list[str], str]:
    """The GANs that can be trained on this data, and a remark when some cannot."""
    from ensgan import zoo
    from ensgan.errors import DataError

    shape, classes = dataset.shape, dataset.num_classes
    rows = [name for name in zoo.names() if not zoo.get(name).problems(shape, classes)]
    if not rows:
        reasons = zoo.get("SNGAN").problems(shape, classes)
        raise DataError(f"no GAN can be trained on {dataset.name}: {'; '.join(reasons)}")
    remark = "" if len(rows) == len(zoo.names()) else f" of the {len(rows)} that fit this data"
    return rows, remark


def _training(dataset: Dataset, machine: Machine) -> list[Choice]:
    images = len(dataset.train)
    rows, without = _rows(dataset)
    batch = largest_batch(images, 64 if machine.gpus else 32)
    small = f"; only {images} images: expect the GANs to repeat them" * (images < _SMALL_SET)
    if machine.gpus:
        share = 0.5 if machine.gpu_memory_gb >= 20 else 1.0
        return [
            Choice(
                "train.gans",
                rows if without else "all",
                f"{machine.gpus} GPU: the whole zoo{without}",
            ),
            Choice("train.steps", 100_000, "generator updates a GAN"),
            Choice("train.snapshots", 5, "members of the pool from each GAN"),
            Choice("train.batch", batch, f"at most half of the {images} training images{small}"),
            Choice(
                "cluster.gpus_per_trial",
                share,
                f"{machine.gpu_memory_gb:.0f} GB on a GPU: {round(1 / share)} at a time on each",
            ),
        ]
    light = [name for name in _LIGHT if name in rows] or rows[:3]
    return [
        Choice(
            "train.gans",
            light,
            f"no GPU: {len(light)} light rows first{without} ('all' takes the whole zoo)",
        ),
        Choice(
            "train.width",
            0.125,
            "an eighth of the channels: full width takes tens of seconds a step on CPU",
        ),
        Choice("train.steps", 1500, "generator updates a GAN; raise it for better images"),
        Choice("train.snapshots", 5, "members of the pool from each GAN"),
        Choice("train.batch", batch, f"at most half of the {images} training images{small}"),
        Choice("train.d_updates", 1, "a third of the time of the usual number or less"),
    ]


def _proof(dataset: Dataset, machine: Machine) -> list[Choice]:
    smallest = min(int((dataset.train.labels == c).sum()) for c in range(dataset.num_classes))
    neighbours = max(1, min(5, smallest - 1))
    few = "" if neighbours == 5 else f"; a class has only {smallest} images"
    proof = [Choice("score.k", neighbours, f"neighbours of density and coverage{few}")]
    if dataset.num_classes < 2:
        proof.append(Choice("evaluate.strategies", [], "one class: nothing to classify"))
    elif not machine.gpus:
        proof += [
            Choice("evaluate.repeats", 5, "classifiers a strategy (the paper has 20)"),
            Choice("evaluate.epochs", 8),
            Choice("evaluate.width", 16, "a quarter of a ResNet-18's channels"),
        ]
    return proof


def largest_batch(images: int, wanted: int) -> int:
    """The largest power of two that is at most ``wanted`` and half of the images, at least 2."""
    batch = 2
    while 2 * batch <= min(wanted, images // 2):
        batch *= 2
    return batch


def _sweep_name(name: str, source: dict[str, Any]) -> str:
    import re

    if source["name"] in ("folder", "aiforcovid") and source["data_dir"]:
        name = Path(source["data_dir"]).resolve().name
    text = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:70]
    return f"{text or 'my-data'}-first"


def _counts(dataset: Dataset) -> str:
    sizes = " / ".join(f"{len(split):,}" for split in dataset.splits().values())
    return f"train / val / test {sizes}"


def to_tree(choices: list[Choice]) -> dict[str, Any]:
    """The sweep as a nested mapping."""
    tree: dict[str, Any] = {}
    for choice in choices:
        *parents, last = choice.key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = choice.value
    return tree


def to_yaml(choices: list[Choice]) -> str:
    """The sweep file, each reason as a comment beside its value."""
    import yaml

    lines = ["# Written by `ensgan init`; every value may be changed."]
    open_sections: list[str] = []
    for choice in choices:
        *parents, last = choice.key.split(".")
        for depth, parent in enumerate(parents):
            if open_sections[depth : depth + 1] != [parent]:
                lines.append("  " * depth + f"{parent}:")
                open_sections = [*open_sections[:depth], parent]
        open_sections = open_sections[: len(parents)]
        text = yaml.safe_dump(choice.value, default_flow_style=True, width=10_000)
        value = text.removesuffix("...\n").strip()
        reason = f"  # {choice.reason}" if choice.reason else ""
        lines.append("  " * len(parents) + f"{last}: {value}{reason}")
    return "\n".join(lines) + "\n"


def _shown(
    path: Path, text: str, problems: tuple[str, ...], notes: tuple[str, ...]
) -> RenderableType:
    from rich.text import Text

    said = [f"problem: {problem}" for problem in problems] + [f"note: {note}" for note in notes]
    steps = [
        f"wrote {path}; next:",
        f"  ensgan sweep {path} --dry-run   # what it will take",
        f"  ensgan sweep {path}",
    ]
    return Text("\n".join([text, *said, *steps]))
