"""``ensgan sweep`` and ``ensgan train``, and the results that they print."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image
from PIL.Image import Resampling
from rich.console import Console
from rich.style import Style
from rich.text import Text

from ensgan import cli
from ensgan.cli import output as out
from ensgan.cli.catalogue import DataDirOption
from ensgan.cli.evaluate import comparison_table
from ensgan.cli.output import FittingTable
from ensgan.cli.runs import StorageOption
from ensgan.downstream.statistics import headline
from ensgan.errors import SweepStoppedError
from ensgan.types import UInt8Array

PHANTOM = "phantom"
"""The data set without real persons, so that a terminal may show its images unasked."""

SpecArgument = Annotated[Path, typer.Argument(help="Sweep file (YAML).", metavar="SPEC.yaml")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=VALUE", help="Override a setting; can be repeated."),
]
HoursOption = Annotated[
    float | None,
    typer.Option(
        help="End training after so many GPU-hours of all trials; without GPUs, CPU-hours."
    ),
]
DeadlineOption = Annotated[
    str | None, typer.Option(help="End training after 90m or 6h, or at 2026-12-01T08:00.")
]
RetrainOption = Annotated[
    bool,
    typer.Option("--retrain", help="GANs may train again for snapshots before their last one."),
]


def sweep(
    spec: SpecArgument,
    settings: SetOption = None,
    address: out.AddressOption = "local",
    allow_open_cluster: out.OpenClusterOption = False,
    gpu_hours: HoursOption = None,
    deadline: DeadlineOption = None,
    storage: StorageOption = None,
    data_dir: DataDirOption = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Say what would run and what it costs; runs nothing but plugin files."
        ),
    ] = False,
    yes_many: Annotated[
        bool, typer.Option("--yes-many", help="Allow more than 1,000 configurations.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Set the earlier sweep of this name aside; start over.")
    ] = False,
    retrain: RetrainOption = False,
    without_added: Annotated[
        bool, typer.Option("--without-added", help="Leave out what `ensgan add` added earlier.")
    ] = False,
    notify: Annotated[
        str | None,
        typer.Option(help="URL to post one JSON object to when it has ended, well or badly."),
    ] = None,
    as_json: out.JsonLinesOption = False,
) -> None:
    """Run a whole sweep; running it again resumes it.

    Example: ensgan sweep sweeps/quickstart.yaml --set train.steps=400
    """
    from ensgan.cluster.budget import make_budget
    from ensgan.launch.finished import check_receiver, notifying

    budget = make_budget(gpu_hours, deadline)
    if notify is not None:
        check_receiver(notify)
    from ensgan.store import default_storage

    if dry_run:
        from ensgan.cli.init import show_plan
        from ensgan.outputs import refuse_unwritable

        refuse_unwritable((storage or default_storage()) / "sweeps")
        options = {"fresh": fresh, "retrain": retrain, "without_added": without_added}
        show_plan(spec, settings or [], storage, data_dir, as_json, many=yes_many, **options)
        return
    from ensgan.cli.status import watching
    from ensgan.launch.finished import known_result
    from ensgan.sweep.events import Event

    if not fresh and not without_added:
        known = known_result(spec, settings or [], storage or default_storage(), data_dir)
        if known is not None:  # found without the libraries that a stage needs
            _show_known(known, storage, as_json)
            return
    out.note("starting: reading settings and data …")
    from ensgan.launch.sweep import run_sweep

    with (
        _exit_code_of_interrupts(),
        watching(as_json) as on_event,
        notifying(notify, spec.stem, on_event) as (message, on_event),
    ):
        result = run_sweep(
            spec,
            settings=settings or [],
            storage=storage,
            data_dir=data_dir,
            address=address,
            allow_open_cluster=allow_open_cluster,
            budget=budget,
            fresh=fresh,
            retrain=retrain,
            without_added=without_added,
            many=yes_many,
            on_event=on_event,
            started=cli.STARTED,  # start-up counts
        ).to_json()
        message |= {"state": "failed" if result["failed"] else "finished"}
        message |= {name: result[name] for name in ("run_id", "members", "selected", "failed")}
        if as_json:
            on_event(Event("done", result))
    if not as_json:
        _show_result(result, storage)
    if result["failed"]:
        raise typer.Exit(1)


@contextlib.contextmanager
def _exit_code_of_interrupts() -> Iterator[None]:
    """Exit codes and messages of ctrl-C (130, as in shells) and of `ensgan stop` (0)."""
    try:
        yield
    except SweepStoppedError as end:
        sys.stderr.write(f"{end}: the same command goes on from here\n")
        raise typer.Exit(0) from None
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: the same command goes on from here\n")
        raise typer.Exit(130) from None


def train(
    spec: SpecArgument,
    gan: Annotated[str, typer.Option(help="Which GAN (or GAN~VARIATION) of the sweep.")],
    settings: SetOption = None,
    storage: StorageOption = None,
    data_dir: DataDirOption = None,
    retrain: RetrainOption = False,
    as_json: out.JsonLinesOption = False,
) -> None:
    """Train, sample and score one GAN (or GAN~VARIATION) of a sweep in this process, without Ray.

    Example: ensgan train sweeps/quickstart.yaml --gan StyleGAN2
    """
    from ensgan.cli.status import watching
    from ensgan.launch.sweep import train_one

    with watching(as_json) as on_event:
        members = train_one(
            spec,
            gan,
            settings=settings or [],
            storage=storage,
            data_dir=data_dir,
            retrain=retrain,
            on_event=on_event,
        )

    def table() -> FittingTable:
        names = ("weights", "density", "coverage")
        shown = FittingTable("member", "Intra-d", *names[1:], names[0], spare=names)
        for member in members:
            shown.add_row(
                member.name,
                f"{member.intra_d:.3f}",
                f"{member.density:.3f}",
                f"{member.coverage:.3f}",
                str(member.weights),
            )
        return shown

    out.emit({"members": [member.to_json() for member in members]}, as_json=as_json, table=table)


def _show_known(result: dict[str, Any], storage: Path | None, as_json: bool) -> None:
    """Print the result of a finished sweep with nothing left to do."""
    for sentence in result.pop("said"):
        out.warn(sentence)
    if as_json:
        out.emit({"event": "done", **result}, as_json=True, table=str)
        return
    typer.echo("nothing to do: the sweep is finished, and all it was made from is as it was")
    _show_result(result, storage)


def _show_result(done: Mapping[str, Any], storage: Path | None) -> None:
    """Print the table, times, G* and its images, the verdict, and what to do next."""
    console, folder = out.PlainConsole(), Path(done["folder"])
    if done["downstream"]["strategies"]:
        console.print(comparison_table(done["downstream"]))
    stages = FittingTable("stage", "seconds", title="\nWhere the time went")
    for name, seconds in done["stages"].items():
        stages.add_row(name, f"{seconds:.1f}")
    console.print(stages)
    selected, name = done["selected"], folder.name

    def say(text: str, style: str | None = None) -> None:
        console.print(text, style=style, soft_wrap=True)  # to be copied: never cut

    say(f"G*: {', '.join(selected['members'])}\n{selected['reason']}")
    for gan, reason in done["failed"].items():
        say(f"FAILED {gan}: {reason}", "red")
    _show_images(console, folder)
    say(f"\n{headline(done['downstream'], len(selected['members']), done['members'])}.", "bold")
    for remark in (done["downstream"]["verdict"], *done.get("cautions", ())):
        say(f"{remark}." if remark else "")
    where = f" --storage {shlex.quote(str(storage))}" if storage else ""
    if done["run_id"] is None:
        say(f"Not recorded: `ensgan sync {name}{where}` records it when the store is back.")
        return
    say(
        f"\nMLflow run ID: {done['run_id']}\n{_first()}"
        f"  look    ensgan report {name} -o report.html{where}\n"
        f"  browse  ensgan ui {name}{where}\n"
        f"  use     ensgan sample {name} -n 64 --seed 1 -o samples.npz{where}"
    )


def _first() -> str:
    """A line that makes the shell find ``ensgan``, if its environment is not activated."""
    script = Path(sys.prefix) / "bin" / "activate"
    if shutil.which("ensgan") or not script.is_file():
        return ""
    if script.is_relative_to(Path.cwd()):
        script = script.relative_to(Path.cwd())
    return f"  first   source {shlex.quote(str(script))}\n"


def _show_images(console: out.PlainConsole, path: Path) -> None:
    """A strip of images of G*, below one of real images if those may be shown."""
    from ensgan.sweep.folder import SweepFolder
    from ensgan.types import Samples

    if not can_show(console):
        return
    folder = SweepFolder(path)
    manifest = folder.read()
    files = [manifest.members[name].samples for name in manifest.chosen]
    made = [Samples.load(file).images for file in files]
    rows = {"made by G*": [made[place % len(made)][place] for place in range(COLUMNS)]}
    if manifest.dataset.name == PHANTOM or manifest.settings.track.show_real:
        real = Samples.load(folder.real_images(manifest.dataset.key)).images
        rows = {"real": list(real[:COLUMNS]), **rows}
    for label, images in rows.items():
        strip = image_strip(images, console.width)
        for line in [label, *strip] if strip else []:
            console.print(line, soft_wrap=True)


COLUMNS = 4
"""Images per row."""
_SIDES = (12, 32)
"""Smallest and largest side of an image, pixels."""


def can_show(console: Console) -> bool:
    """Whether output goes to a terminal with enough colours and Unicode."""
    encoding = (console.encoding or "").lower()
    return (
        console.is_terminal
        and console.color_system in ("256", "truecolor")
        and encoding.startswith("utf")
    )


def image_strip(images: Sequence[UInt8Array], width: int) -> list[Text]:
    """Images beside one another as lines of half blocks.

    Args:
        images: uint8 [H,W] or [H,W,3], at most :data:`COLUMNS` are shown.
        width: columns of the terminal.
    """
    side = min(_SIDES[1], (width - COLUMNS + 1) // COLUMNS)
    if side < _SIDES[0]:
        return []
    side -= side % 2
    # Box resampling: each pixel is the mean of the area it covers.
    small = [
        np.asarray(Image.fromarray(image).convert("RGB").resize((side, side), Resampling.BOX))
        for image in images[:COLUMNS]
    ]
    lines = []
    for row in range(0, side, 2):
        line = Text(no_wrap=True, end="")
        for place, image in enumerate(small):
            line.append(" " if place else "")
            for upper, lower in zip(image[row], image[row + 1], strict=True):
                line.append("▀", Style(color=_colour(upper), bgcolor=_colour(lower)))
        lines.append(line)
    return lines


def _colour(pixel: UInt8Array) -> str:
    return "rgb({},{},{})".format(*map(int, pixel))
