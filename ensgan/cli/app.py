"""The ``ensgan`` command: its sub-commands, and how errors become exit codes.

A command's module is imported when the command is called, not before: ``ensgan --help`` answers at
once although commands import torch, Ray and MLflow at their top.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import importlib
import logging
import os
import re
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ensgan import __version__
from ensgan.errors import EnsganError, InputError, last_line, unknown_name
from ensgan.text import PLAIN, hide_credentials, plainer, printable

LEVELS = ("quiet", "normal", "verbose")
"""How much is printed on stderr besides warnings and errors."""
SLOW = ("torch", "ray", "mlflow")
"""Packages that take seconds to import on a cold or busy machine."""
PANELS = {
    "Begin": {
        "doctor": ("doctor", "Look at versions, GPU, disk, tracking server and tokens."),
        "zoo": (
            "catalogue",
            "List the GANs with their parts, parameter counts and training memory.",
        ),
        "data": ("catalogue", "Look at data sets."),
        "init": ("init", "Look at the data and this machine and write a first sweep file."),
    },
    "Run a sweep": {
        "sweep": ("sweep", "Run a whole sweep; running it again resumes it."),
        "train": (
            "sweep",
            "Train, sample and score one GAN (or GAN~VARIATION) of a sweep in this process.",
        ),
        "status": ("status", "Show how far a sweep is."),
        "logs": ("steer", "Show what the trials of a sweep have logged."),
        "merge": ("init", "Write the sweep file that makes one pool of finished sweeps."),
        "sync": ("runs", "Record a sweep that the tracking store missed."),
    },
    "Steer a running sweep": {
        "stop": ("steer", "End a running sweep, or one GAN of it, at a checkpoint."),
        "pause": ("steer", "Free the slots of a running sweep, or of one GAN of it."),
        "resume": ("steer", "Go on with what was paused, or with a GAN that was stopped."),
        "retry": ("steer", "Try a GAN again that has failed."),
        "priority": ("steer", "Let a GAN that waits be trained earlier or later."),
        "add": ("steer", "Let a running sweep train a GAN more, or a variation more."),
        "budget": ("steer", "Give a sweep that runs with --gpu-hours more of them, or fewer."),
    },
    "Pools of your own: score, search, select": {
        "bank": (
            "bundle",
            "Run a generator of your own and keep its images as a member of a pool.",
        ),
        "prdc": ("score", "Precision, recall, density and coverage of generated features."),
        "score": ("score", "Score a pool of generators."),
        "search": ("search", "Search the Pareto front of a scored pool."),
        "select": ("select", "Choose one ensemble from a front and say why."),
        "bundle": ("bundle", "Choose an ensemble of a front and write it as an artifact."),
    },
    "What it is worth": {
        "evaluate": (
            "evaluate",
            "Train classifiers on what strategies provide, test them on real data.",
        ),
        "study": ("study", "Write a page on what finished sweeps' ensembles are worth."),
        "report": ("pages", "Write a sweep's report: one HTML file that needs no network."),
        "compare": ("runs", "Set runs side by side."),
    },
    "Recorded sweeps and their ensembles": {
        "runs": ("runs", "List the recorded sweeps."),
        "show": ("runs", "Show one run: settings, scores, the runs below it and its files."),
        "ui": ("pages", "Open the MLflow pages of the recorded sweeps on this machine."),
        "pull": ("runs", "Fetch a sweep's ensemble to a folder and verify every file of it."),
        "verify": ("runs", "Re-hash an ensemble's files."),
        "sample": ("sample", "Make images with an ensemble."),
        "serve": ("sample", "Serve an ensemble's images over HTTP."),
        "promote": ("runs", "Register a sweep's ensemble in MLflow's model registry."),
    },
}
"""Commands in the order of their use: name, module with a function of that name, help."""
COMMANDS = {name: told for commands in PANELS.values() for name, told in commands.items()}
_EPILOG = (
    "Environment: ENSGAN_STORAGE names the folder of sweeps and results, ENSGAN_DATA that of data "
    "sets, ENSGAN_CACHE and ENSGAN_CACHE_GB the cache, MLFLOW_TRACKING_URI the place of records, "
    "ENSGAN_TOKEN the token of ensgan serve. Exit codes: 0 ok, 1 failure in the run, 2 wrong usage "
    "or input."
)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_SUCH_NAME = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EACCES)


def load_command(name: str) -> Any:
    """The command of that name, its module imported."""
    target = getattr(importlib.import_module(f"ensgan.cli.{COMMANDS[name][0]}"), name)
    if not isinstance(target, typer.Typer):
        single = typer.Typer(add_completion=False)  # that is an option of `ensgan` alone
        single.command(name)(target)
        target = single
    command = typer.main.get_command(target)
    # Join the lines of a paragraph, so that it is wrapped at the width of the terminal.
    command.help = re.sub(r"(?<=\S)\n(?=\S)", " ", command.help or "")
    return command


class _CommandsOnDemand(TyperGroup):
    """Lists stand-ins of the commands, and loads the one that is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        if ctx.params.get("quiet"):
            os.environ["ENSGAN_LOG"] = "quiet"  # before the import that follows
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else load_command(name), rest


app = typer.Typer(
    name="ensgan",
    cls=_CommandsOnDemand,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Pareto-optimal ensembles of GANs for faithful and diverse synthetic medical images.",
    epilog=_EPILOG,
)


def _stand_in() -> None:
    """Never called: :class:`_CommandsOnDemand` puts the command itself in its place."""


for _panel, _commands in PANELS.items():
    for _name, (_, _summary) in _commands.items():
        app.command(_name, help=_summary, rich_help_panel=_panel)(_stand_in)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ensgan {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", envvar="ENSGAN_DEBUG", help="Show the traceback of an unforeseen failure."
        ),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show what the libraries below say, too.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show results, warnings and errors only.")
    ] = False,
    log: Annotated[
        str,
        typer.Option(envvar="ENSGAN_LOG", help=f"How much to say on stderr: {', '.join(LEVELS)}."),
    ] = "normal",
) -> None:
    del version  # handled by its callback
    if log not in LEVELS:
        raise InputError(f"ENSGAN_LOG or --log: {unknown_name('level', log, LEVELS)}")
    log = "quiet" if quiet else "verbose" if verbose else log
    os.environ["ENSGAN_LOG"] = log  # output.py and this command's worker processes read it
    if log == "verbose":
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    if debug:
        os.environ["ENSGAN_DEBUG"] = "1"  # main() and this command's worker processes read it


def main() -> None:
    """Entry point of the console script.

    Exit codes: 0 ok, 1 failure in the run, 2 wrong usage or input.
    """
    codecs.register_error(PLAIN, plainer)
    _open_closed_streams()
    sys.meta_path.insert(0, _SaysWhatIsSlow())
    # Pydantic would look for plugins among all that is installed, a tenth of `ensgan status`.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal cannot show is replaced by a plainer one, without an error.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=PLAIN)
    try:
        os.getcwd()  # noqa: PTH109
    except (
        FileNotFoundError
    ):  # a job whose scratch was cleaned; torch's libraries cannot load there
        _end("error: the current folder has been deleted: change into one that exists", 2)
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # here a full disk can still be reported, at exit it cannot
    except EnsganError as error:
        _end(f"error: {error}", error.exit_code)
    except BrokenPipeError:
        # The reader of a pipe has ended (`ensgan runs | head`), which is no error.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - for the flush at exit
        sys.exit(0)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            _end(f"error: the output cannot be written: {error.strerror}; make room", 1)
        if isinstance(error, OSError) and error.errno in _NO_SUCH_NAME:
            _end(f"error: {str(error.filename)[:100]}: {error.strerror}; name another path", 2)
        if isinstance(error, MemoryError):
            # Ending the interpreter may run out of memory too, which needs no second message.
            sys.unraisablehook = lambda _: None
            _end("error: not enough memory (see ulimit -v, or the memory of the job)", 1)
        if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):
            _end(f"error: {error}; name another path", 2)
        if os.environ.get("ENSGAN_DEBUG", "") not in ("", "0"):
            raise
        _end(_unforeseen(error), 1)


def _open_closed_streams() -> None:
    """Connect closed standard streams (``>&-``) to the null device.

    Otherwise the next file that is opened would get the number of stdout, and all that libraries
    print.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123


class _SaysWhatIsSlow:
    """An import hook that only reports, on a terminal, imports that take more than a second."""

    def find_spec(self, name: str, *_: object) -> None:
        if name in SLOW and sys.stderr.isatty():
            timer = threading.Timer(1.0, self._say, [name])
            timer.daemon = True
            timer.start()

    def _say(self, name: str) -> None:
        spec = getattr(sys.modules.get(name), "__spec__", None)
        if getattr(spec, "_initializing", False) and os.environ.get("ENSGAN_LOG") != "quiet":
            sys.stderr.write(f"loading {name} …\n")


def _end(message: str, code: int) -> None:
    """Print a last sentence, if stderr still works, and exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # stderr closed or full
        sys.stderr.write(f"{printable(hide_credentials(message))}\n")
        sys.stderr.flush()
    sys.exit(code)


def _unforeseen(error: Exception) -> str:
    """One sentence about an unexpected failure, and where its traceback is."""
    command = " ".join(["ensgan", *[word for word in sys.argv[1:2] if word in COMMANDS]])
    sentence = f"error: {command} failed: {type(error).__name__}: {last_line(error)}"
    try:
        folder = Path(tempfile.mkdtemp(prefix="ensgan-"))
        path = folder / f"traceback-{time.strftime('%Y%m%d-%H%M%S')}.txt"
        text = hide_credentials("".join(traceback.format_exception(error)))
        path.write_text(text, errors="replace")
    except OSError:
        return f"{sentence}; run it again with --debug for the traceback"
    return f"{sentence}; the traceback is in {path} (shown with ensgan --debug)"
