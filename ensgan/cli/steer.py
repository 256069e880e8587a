"""Steering a running sweep from another shell, and looking at the logs of its trials."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from ensgan.cli.output import JsonOption, emit, note
from ensgan.cli.runs import RunArgument, StorageOption
from ensgan.cluster.budget import Budget
from ensgan.config import read_setting
from ensgan.config.vary import check_variation
from ensgan.errors import InputError, unknown_name
from ensgan.inputs import kind
from ensgan.store import default_storage
from ensgan.sweep.folder import SweepFolder, find_sweep
from ensgan.sweep.live.requests import POLL_SECONDS, Answer, Request, RequestFolder, Verb
from ensgan.text import printable

ANSWER_SECONDS = 60.0
"""A driver looks once a second, but a long computation may delay it."""

GanOption: TypeAlias = Annotated[
    str | None, typer.Option("--gan", help="Only this GAN. [default: the whole sweep]")
]
OneGanOption: TypeAlias = Annotated[str, typer.Option("--gan", help="Which GAN.")]
WaitOption: TypeAlias = Annotated[
    bool, typer.Option("--wait", help="Wait until it has happened, not only until it is accepted.")
]


def _of_sweep_or_gan(verb: Verb, text: str) -> Callable[..., None]:
    """The command that asks ``verb`` of a sweep, or of one GAN of it."""

    def command(
        name: RunArgument,
        gan: GanOption = None,
        wait: WaitOption = False,
        storage: StorageOption = None,
        as_json: JsonOption = False,
    ) -> None:
        _ask(verb, name, storage, as_json, gan=gan, wait=wait)

    command.__doc__ = text
    return command


stop = _of_sweep_or_gan(
    "stop",
    """End a running sweep, or one GAN of it, at a checkpoint; running the sweep again resumes it.

    Example: ensgan stop quickstart --gan StyleGAN2
    """,
)
pause = _of_sweep_or_gan(
    "pause",
    """Free the slots of a running sweep, or of one GAN of it, until `ensgan resume`.

    Example: ensgan pause quickstart
    """,
)
resume = _of_sweep_or_gan(
    "resume",
    """Go on with what was paused, or with a GAN that was stopped.

    Example: ensgan resume quickstart
    """,
)


def retry(
    name: RunArgument,
    gan: OneGanOption,
    wait: WaitOption = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try a GAN again that has failed, while the others are still trained.

    Example: ensgan retry quickstart --gan BigGAN
    """
    _ask("retry", name, storage, as_json, gan=gan, wait=wait)


priority = typer.Typer(add_completion=False)


@priority.command("priority", context_settings={"ignore_unknown_options": True})  # -1 is a number
def _priority(
    name: RunArgument,
    value: Annotated[
        float, typer.Argument(help="The higher, the sooner; every GAN begins with 0.")
    ],
    gan: OneGanOption,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a GAN that waits be trained earlier or later.

    Example: ensgan priority quickstart 5 --gan ReACGAN
    """
    if not abs(value) < float("inf"):
        raise InputError(f"a priority is a number, not {value:g}")
    _ask("priority", name, storage, as_json, gan=gan, value=value)


def budget(
    name: RunArgument,
    gpu_hours: Annotated[
        float,
        typer.Option(help="Hours that all trials together may take, those already spent included."),
    ],
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a sweep that runs with --gpu-hours more of them, or fewer.

    Example: ensgan budget quickstart --gpu-hours 60
    """
    Budget(gpu_hours)
    _ask("budget", name, storage, as_json, value=gpu_hours)


def add(
    name: RunArgument,
    gan: Annotated[
        str | None, typer.Option("--gan", help="A GAN, which is trained in all variations.")
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            "--vary",
            metavar="SETTING=VALUE",
            help="Settings of one variation of every GAN; where variations are drawn: sample=N.",
        ),
    ] = None,
    wait: WaitOption = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a running sweep train a GAN more, or a variation more of every GAN.

    Example: ensgan add quickstart --gan SAGAN
    """
    pairs = [read_setting(text, "--vary") for text in vary or ()]
    values = dict(pairs)
    if gan is None and not values:
        raise InputError("nothing to add: name a GAN (--gan) or a variation (--vary SETTING=VALUE)")
    if len(values) < len(pairs):
        raise InputError("--vary names a setting twice: add one variation after the other")
    if values:
        check_variation(values)
    _ask("add", name, storage, as_json, gan=gan, vary=values, wait=wait)


def _ask(
    verb: Verb,
    name: str,
    storage: Path | None,
    as_json: bool,
    *,
    gan: str | None = None,
    value: float | None = None,
    vary: Mapping[str, Any] | None = None,
    wait: bool = False,
) -> None:
    """Write a request, wait for the driver's answer, and print it."""
    folder = find_sweep(name, (storage or default_storage()).resolve())
    if verb != "add":  # the name of an added GAN is checked by the driver
        _check_gan(folder, gan)
    requests = RequestFolder(folder.path)
    if not folder.is_locked():
        nothing, rest = (
            f"there is nothing to {'steer' if verb in ('priority', 'budget') else verb}",
            "`ensgan sweep` with its file goes on with it",
        )
        if verb == "add":
            nothing, rest = (
                "nothing can be added to it",
                "write it into its file and run that again",
            )
        raise InputError(f"no process runs sweep '{folder.path.name}' now: {nothing}; {rest}")
    if not requests.is_open:
        raise InputError(
            f"the process that holds {folder.path} takes no requests (yet): it is just beginning, "
            "or it is `ensgan train` or `ensgan evaluate`"
        )
    request = requests.post(verb, gan, value, vary)
    answer = _answer(requests, request, wait=wait, goes_on=folder.is_locked)
    if answer.state == "refused":
        raise InputError(answer.message)
    vary_of = {"vary": dict(vary)} if vary else {}
    emit(
        {"sweep": folder.path.name, "gan": gan, "asked": verb, **vary_of, **answer.tree()},
        as_json=as_json,
        table=lambda: answer.message,
    )


def _check_gan(folder: SweepFolder, gan: str | None) -> None:
    if gan is not None:
        known = folder.read().gans
        if gan not in known:
            raise InputError(unknown_name(f"GAN of sweep '{folder.path.name}'", gan, known))


def _answer(
    requests: RequestFolder, request: Request, *, wait: bool, goes_on: Callable[[], bool]
) -> Answer:
    """The first answer, or with ``wait`` the last one."""
    deadline, told = time.monotonic() + ANSWER_SECONDS, False
    while True:
        is_held = goes_on()  # before reading the answer, which may be the driver's last act
        answer = requests.answer_to(request)
        if answer is not None and (answer.state != "taken" or not wait):
            return answer
        if answer is not None and not told:
            note(f"{answer.message} …")
            told = True
        if not is_held:
            raise InputError("the sweep's process ended without an answer: look with ensgan status")
        if answer is None and time.monotonic() > deadline:
            raise InputError(
                f"the sweep has not answered for {ANSWER_SECONDS:.0f} s; the request stays, and is "
                "taken when it looks next"
            )
        time.sleep(POLL_SECONDS / 5)


def logs(
    name: RunArgument,
    gan: GanOption = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Keep showing new lines until ctrl-C.")
    ] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="Lines of each log to begin with.")
    ] = 20,
    storage: StorageOption = None,
) -> None:
    """Show what the trials of a sweep have logged.

    Example: ensgan logs quickstart --gan StyleGAN2
    """
    folder = find_sweep(name, (storage or default_storage()).resolve())
    _check_gan(folder, gan)
    names = folder.read().gans if gan is None else (gan,)
    if not names:
        raise InputError(f"sweep '{folder.path.name}' trains no GANs: there is nothing to log")
    tails = [_Tail(each, folder.log(each)) for each in names]
    if not follow and not any(tail.path.exists() for tail in tails):
        raise InputError(f"nothing of {', '.join(names)} is logged yet in {folder.path / 'logs'}")
    label = len(names) > 1
    for tail in tails:
        tail.show(label=label, last=lines)
    while follow:
        time.sleep(POLL_SECONDS / 2)
        for tail in tails:
            tail.show(label=label)


LARGEST_LOOK = 16 << 20
"""Most bytes of a log that are read at once; plugins may print any amount."""


class _Tail:
    """A log, and how far it has been shown."""

    def __init__(self, gan: str, path: Path) -> None:
        self.gan, self.path, self._at = gan, path, 0

    def show(self, *, label: bool, last: int | None = None) -> None:
        """Print the whole lines that were added, the ``last`` of them."""
        if kind(self.path) != "file":
            return
        with self.path.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            self._at = 0 if end < self._at else self._at  # shorter than before: a new file
            if last is not None:
                self._at = max(self._at, end - LARGEST_LOOK)
            log.seek(self._at)
            text = log.read(LARGEST_LOOK)
        # An unfinished line waits for its end, unless it fills a whole read.
        whole = text[: text.rfind(b"\n") + 1] or (text if len(text) == LARGEST_LOOK else b"")
        self._at += len(whole)
        shown = whole.decode("utf-8", "replace").splitlines()
        for line in shown if last is None else shown[len(shown) - min(last, len(shown)) :]:
            sys.stdout.write(f"{self.gan}  " * label + f"{printable(line)}\n")
        sys.stdout.flush()
