"""Before a sweep: its file written (``init``, ``merge``), its cost told (``sweep --dry-run``)."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from ensgan.cli.catalogue import (
    AcceptOption,
    DataDirOption,
    SettingOption,
    SizeOption,
    parse_options,
)
from ensgan.cli.output import FittingTable, ForceOption, JsonOption, emit, progress, warn
from ensgan.cli.runs import StorageOption
from ensgan.errors import DataError
from ensgan.text import counted, duration, printable

if TYPE_CHECKING:
    from ensgan.sweep.planning.plan import Plan
    from ensgan.types import Dataset

_QUICK = ("StyleGAN2", "StyleGAN2-ADA")  # rows that learn fastest on a CPU: the quickstart's
_SMALL_SET = 200  # training images below which a GAN mostly repeats them
_MOST_ROWS = 100  # of a plan that are printed; --json has all of them


@dataclass(frozen=True)
class Machine:
    """What training has at hand: CPU cores, GPUs and the memory of the smallest one in GB."""

    cores: int
    gpus: int = 0
    gpu_memory_gb: float = 0.0


def init(
    data: Annotated[
        str, typer.Option("--data", metavar="NAME|DIR|FILE.npz", help="The images to learn from.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write; default: NAME.yaml.")
    ] = None,
    data_dir: DataDirOption = None,
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
    from ensgan.config.load import read_yaml
    from ensgan.data import check, load_dataset, locate
    from ensgan.data.image_files import available_cores
    from ensgan.files import write_bytes
    from ensgan.outputs import claim_output
    from ensgan.sweep.planning.cost import local_gpus
    from ensgan.sweep.planning.sweep_file import known_names

    def claim(path: Path) -> Path:
        # A sweep file may lie in the data folder; other files there are data, never replaced.
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
    gpus, memory = local_gpus()
    text = propose(dataset, source, Machine(available_cores(), gpus, (memory or 0) / 1e9))
    tree = read_yaml(text, "the proposed sweep")
    spec = parse_spec(tree, source="the proposed sweep", known=known_names())
    path = claim(output or Path(f"{spec.name}.yaml"))
    write_bytes(path, text.encode())
    value = {
        "path": printable(str(path)),
        "spec": tree,
        "text": text,
        "problems": list(report.problems),
        "notes": list(report.notes),
    }
    remarks = tuple(f"problem: {each}" for each in report.problems)
    remarks += tuple(f"note: {each}" for each in report.notes)
    emit(value, as_json=json, table=lambda: _shown(path, spec.name, text, remarks))


def _shown(path: Path, sweep: str, text: str, remarks: tuple[str, ...]) -> Text:
    name = shlex.quote(printable(str(path)))
    steps = [
        f"wrote {name}; next:",
        f"  ensgan sweep {name} --dry-run   # what it will take",
        f"  ensgan sweep {name}   # ctrl-C ends it, the same command goes on",
        f"  ensgan report {sweep} -o report.html   # what was found, with images",
    ]
    return Text("\n".join([text, *remarks, *steps]))


def propose(dataset: Dataset, source: dict[str, Any], machine: Machine) -> str:
    """The text of a first sweep file, with the reason of each value beside it.

    Raises:
        DataError: no GAN can be trained on these data.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ensgan.cli"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["yaml"] = _flow
    images, classes = len(dataset.train), dataset.num_classes
    smallest = min(int((dataset.train.labels == c).sum()) for c in range(classes))
    neighbours = max(1, min(5, smallest - 1))
    rows, without = _rows(dataset)
    gans: Any = [name for name in _QUICK if name in rows] or rows[:3]
    if machine.gpus:
        gans = rows if without else "all"
    return environment.get_template("first_sweep.yaml").render(
        name=_sweep_name(dataset.name, source),
        source=source,
        machine=machine,
        shape=dataset.shape,
        images=images,
        classes=classes,
        sizes=" / ".join(f"{len(split):,}" for split in dataset.splits().values()),
        gans=gans,
        without=without,
        batch=largest_batch(images, 64 if machine.gpus else 16),
        small=f"; only {images} images: expect the GANs to repeat them" * (images < _SMALL_SET),
        share=0.5 if machine.gpu_memory_gb >= 20 else 1.0,
        k=neighbours,
        few="" if neighbours == 5 else f"; a class has only {smallest} images",
    )


def _flow(value: Any) -> str:
    """A value of YAML on one line."""
    import yaml

    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    return text.removesuffix("...\n").strip()


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
    merged = merged_spec(sweeps, root, output.stem, warn)
    tree = merged.model_dump(mode="json", exclude_defaults=True)
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


def show_plan(
    spec: Path,
    settings: list[str],
    storage: Path | None,
    data_dir: Path | None,
    as_json: bool,
    *,
    fresh: bool,
    retrain: bool,
    without_added: bool,
    many: bool,
) -> None:
    """Print what running a sweep file would do; arguments as of ``ensgan sweep``."""
    from ensgan.store import default_storage, open_store
    from ensgan.sweep.planning.plan import look_ahead, make_plan
    from ensgan.sweep.planning.sweep_file import load_sweep
    from ensgan.sweep.resolving import resolve_in

    root = (storage or default_storage()).resolve()
    asked = load_sweep(spec, settings)
    how = {"fresh": fresh, "without_added": without_added, "many": many, "whole": True}
    listen = lambda event: warn(event.fields["message"])  # noqa: E731
    resolved, folder = resolve_in(root, asked, data_dir, listen, **how)
    open_store(resolved.spec.track.uri, storage)  # refuses an address that can be none
    left = None if fresh else look_ahead(resolved, folder, retrain=retrain)
    with progress("counting the operations of each GAN") as on_progress:
        plan = make_plan(resolved, root, left, on_progress=on_progress)
    would = [] if left is None else list(left.sentences)

    def table() -> Group:
        shown = [_plan_table(plan)] if plan.members or not would else []
        more = len(plan.rows) - _MOST_ROWS
        hidden = [f"and {more:,} more GANs (--json shows all)"] if shown and more > 0 else []
        return Group(*would, *shown, *hidden)

    emit({**plan.to_json(), "would": would}, as_json=as_json, table=table)


def _plan_table(plan: Plan) -> RenderableType:
    """The plan in words, and one row per GAN if any is trained."""
    if not plan.rows:
        return _plan_sentence(plan)
    table = FittingTable(
        *("GAN", "steps", "batch", "s/step", "hours", "params G", "params D", "memory MB"),
        title=_plan_sentence(plan),
        spare=("params D", "params G", "batch", "s/step", "memory MB", "steps"),
    )
    for row in plan.rows[:_MOST_ROWS]:
        table.add_row(
            row.gan,
            f"{row.steps:,}",
            str(row.batch),
            f"{row.seconds_per_step:.3f}",
            f"{row.seconds / 3600:.2f}",
            f"{row.generator_parameters:,}",
            f"{row.discriminator_parameters:,}",
            f"{row.memory_bytes / 2**20:.0f}",
        )
    return table


def _plan_sentence(plan: Plan) -> str:
    """The plan in words."""
    missing = "" if plan.disk_bytes <= plan.free_bytes else " – NOT ENOUGH"
    shown = f"{duration(plan.training_seconds)} in all"
    if plan.gpu_hours is not None:
        shown = f"{plan.gpu_hours:,.1f} GPU-hours"
    remark = f"\n{plan.remark}" if plan.remark else ""
    gans, training = "", ""
    if plan.rows:
        gans = f" of {counted(len(plan.rows), 'GAN')}, {plan.steps:,} steps"
        training = (
            f"training about {duration(plan.wall_seconds)} on {counted(plan.slots, 'slot')} "
            f"({shown}), "
        )
    return (
        f"{plan.sweep}: {counted(plan.members, 'member')}{gans}, {plan.images:,} images to "
        f"generate, {counted(plan.classifiers, 'classifier')} to train\n"
        f"{training}disk {plan.disk_bytes / 2**20:,.0f} MB "
        f"of {plan.free_bytes / 2**30:,.0f} GB free{missing}{remark}"
    )
