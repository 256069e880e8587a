"""``ensgan init`` and ``ensgan merge``: sweep files written, with a reason for each value."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ensgan.cli.data import AcceptOption, SettingOption, SizeOption, parse_options
from ensgan.cli.output import ForceOption, JsonOption, emit, progress
from ensgan.cli.runs import StorageOption
from ensgan.errors import DataError
from ensgan.text import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ensgan.types import Dataset

_QUICK = ("StyleGAN2", "StyleGAN2-ADA")  # rows that learn fastest on a CPU: the quickstart's
_HEAD = """\
# Written by `ensgan init` for these data and this machine; every value may be changed.
# The sweep trains the GANs below and keeps snapshots of each: a pool. It scores how much of the
# real images every member reaches (Intra-d) and how much members overlap (Inter-d), searches for
# the best ensembles, chooses one (G*) on the validation split, and compares classifiers trained
# on its images with others on real test images. docs/sweeps.md explains all settings."""
_SECTIONS = {
    "dataset": "the real images: what is learnt from, validated on, tested on",
    "train": "the generators",
    "score": "how members are measured",
    "evaluate": "the downstream test: real, all, best single, random and G*, the same steps each",
    "cluster": "how trials share the machine",
}
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
    image_size: SizeOption = 32,
    accept_checksum: AcceptOption = None,
    option: SettingOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Look at the data and this machine and write a first sweep file with reasons.

    Example: ensgan init --data my-xrays/
    """
    from ensgan.config import parse_spec
    from ensgan.data import check, load_dataset, locate
    from ensgan.files import write_bytes
    from ensgan.outputs import claim_output
    from ensgan.sweep.planning.sweep_file import known_names

    def claim(path: Path) -> Path:
        # A sweep file may lie among the data; anything else there is data.
        read = () if path.suffix in (".yaml", ".yml") else (Path(data), data_dir)
        return claim_output(path, inputs=read, force=force)

    if output is not None:
        claim(output)
    source = locate(data, data_dir, parse_options(option or [], accept_checksum))
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
    path = claim(output or Path(f"{spec.name}.yaml"))
    write_bytes(path, text.encode())
    value = {
        "path": printable(str(path)),
        "spec": to_tree(choices),
        "reasons": {choice.key: choice.reason for choice in choices if choice.reason},
        "problems": list(report.problems),
        "notes": list(report.notes),
    }
    said = tuple(f"problem: {each}" for each in report.problems)
    said += tuple(f"note: {each}" for each in report.notes)
    emit(value, as_json=json, table=lambda: _shown(path, spec.name, text, said))


def this_machine() -> Machine:
    """The cores and GPUs this process may use."""
    import torch

    from ensgan.data.image_files import available_cores

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    memory = [torch.cuda.get_device_properties(index).total_memory for index in range(count)]
    return Machine(available_cores(), count, min(memory, default=0) / 1e9)


def _shown(path: Path, sweep: str, text: str, remarks: tuple[str, ...]) -> RenderableType:
    from rich.text import Text

    name = shlex.quote(printable(str(path)))
    steps = [
        f"wrote {name}; next:",
        f"  ensgan sweep {name} --dry-run   # what it will take",
        f"  ensgan sweep {name}   # ctrl-C ends it, the same command goes on",
        f"  ensgan report {sweep} -o report.html   # what was found, with images",
    ]
    return Text("\n".join([text, *remarks, *steps]))


def propose(dataset: Dataset, source: dict[str, Any], machine: Machine) -> list[Choice]:
    """The values of a first sweep, in the order of the file."""
    images, classes = len(dataset.train), dataset.num_classes
    colour = "grey" if dataset.shape.channels == 1 else "RGB"
    sizes = " / ".join(f"{len(split):,}" for split in dataset.splits().values())
    noun = "1 class" if classes == 1 else f"{classes} classes"
    data = [
        Choice("name", _sweep_name(dataset.name, source)),
        Choice("seed", 0, "the same seed gives the same sweep"),
        Choice("dataset.name", source["name"], f"{images:,} training images, {noun}"),
        *([Choice("dataset.data_dir", source["data_dir"])] if source["data_dir"] else []),
        Choice("dataset.image_size", dataset.shape.size, f"{colour}, train / val / test {sizes}"),
        *(Choice(f"dataset.options.{key}", value) for key, value in source["options"].items()),
    ]
    return [*data, *_training(dataset, machine), *_proof(dataset, machine)]


def _rows(dataset: Dataset) -> tuple[list[str], str]:
    """The GANs that can be trained on this data, and a remark when some cannot."""
    from ensgan import zoo

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
    small = f"; only {images} images: expect the GANs to repeat them" * (images < _SMALL_SET)
    snapshots = Choice("train.snapshots", 5, "members of the pool from each GAN")
    batch = Choice(
        "train.batch",
        largest_batch(images, 64 if machine.gpus else 16),
        f"at most half of the {images} training images{small}",
    )
    if machine.gpus:
        share = 0.5 if machine.gpu_memory_gb >= 20 else 1.0
        return [
            Choice(
                "train.gans",
                rows if without else "all",
                f"{machine.gpus} GPU: the whole zoo{without}",
            ),
            Choice("train.steps", 100_000, "generator updates per GAN"),
            snapshots,
            batch,
            Choice(
                "cluster.gpus_per_trial",
                share,
                f"{machine.gpu_memory_gb:.0f} GB on a GPU: {round(1 / share)} at a time on each",
            ),
        ]
    quick = [name for name in _QUICK if name in rows] or rows[:3]
    return [
        Choice(
            "train.gans",
            quick,
            f"no GPU: {len(quick)} that learn fast{without} ('all' takes the whole zoo)",
        ),
        Choice(
            "train.width",
            0.0625,
            "a sixteenth of the channels: full width takes tens of seconds per step on CPU",
        ),
        Choice("train.learning_rate", 5.0, "short and narrow: larger steps than the papers'"),
        Choice("train.steps", 1000, "generator updates per GAN; raise it for better images"),
        snapshots,
        batch,
        Choice(
            "train.d_updates",
            1,
            "discriminator updates per step; usual are 2 to 5",
        ),
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
            Choice("evaluate.repeats", 5, "classifiers per strategy (the paper has 20)"),
            Choice("evaluate.epochs", 8, "few: small networks need no more"),
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
    if source["name"] in ("folder", "aiforcovid") and source["data_dir"]:
        name = Path(source["data_dir"]).resolve().name
    text = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:70]
    return f"{text or 'my-data'}-first"


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

    lines = [_HEAD]
    open_sections: list[str] = []
    for choice in choices:
        *parents, last = choice.key.split(".")
        for depth, parent in enumerate(parents):
            if open_sections[depth : depth + 1] != [parent]:
                told = f"  # {_SECTIONS[parent]}" if parent in _SECTIONS else ""
                lines.append("  " * depth + f"{parent}:{told}")
                open_sections = [*open_sections[:depth], parent]
        open_sections = open_sections[: len(parents)]
        text = yaml.safe_dump(choice.value, default_flow_style=True, width=10_000)
        value = text.removesuffix("...\n").strip()
        reason = f"  # {choice.reason}" if choice.reason else ""
        lines.append("  " * len(parents) + f"{last}: {value}{reason}")
    return "\n".join(lines) + "\n"


def merge(
    sweeps: Annotated[
        list[str], typer.Argument(metavar="A B …", help="Finished sweeps: names, folders or runs.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Sweep file to write; its name is the sweep's.")
    ],
    storage: StorageOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write the sweep file that makes one pool of finished sweeps on the same data.

    Example: ensgan merge ours theirs -o both.yaml && ensgan sweep both.yaml
    """
    import yaml

    from ensgan.config import parse_spec
    from ensgan.files import write_bytes
    from ensgan.outputs import claim_output
    from ensgan.store import default_storage
    from ensgan.sweep.folder import sweep_folder
    from ensgan.sweep.merging import expand, merged_spec

    claim_output(output, force=force)
    root = (storage or default_storage()).resolve()
    tree = merged_spec(sweeps, root, output.stem).model_dump(mode="json", exclude_defaults=True)
    tree["train"] = {"gans": [], **tree.get("train", {})}
    spec = parse_spec(tree, source=str(output))
    members = [member.name for member in expand(spec, sweep_folder(root, spec.name)).members]
    text = f"# Written by `ensgan merge`: {len(members)} members.\n"
    write_bytes(output, (text + yaml.safe_dump(tree, sort_keys=False)).encode())
    emit(
        {"path": str(output), "members": members},
        as_json=as_json,
        table=lambda: (
            f"{output}: {len(members)} members; "
            f"`ensgan sweep {shlex.quote(str(output))}` makes one pool"
        ),
    )
