"""``ensgan doctor``: check that this machine has what ensgan needs."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.text import Text

from ensgan.cli.output import FittingTable, JsonOption, emit
from ensgan.errors import EnsganError
from ensgan.store import default_storage, open_store
from ensgan.text import split_address

ENOUGH_DISK_GB = 5.0
TIMEOUT_S = 3.0
PACKAGES = ("torch", "numpy", "ray", "mlflow", "optuna", "pymoo", "safetensors", "pydantic")
OPTIONAL = {
    "faiss": "nearest neighbours through faiss: pip install 'ensgan[cpu]' or 'ensgan[gpu]'",
    "torchvision": "the extractors inception and dinov2: pip install 'ensgan[vision]'",
    "pylibjpeg": "compressed DICOM files: pip install 'ensgan[dicom]'",
}


@dataclass(frozen=True)
class Finding:
    """What was checked, its state, and what to do about it."""

    what: str
    state: Literal["ok", "note", "problem"]
    detail: str


def doctor(
    storage: Annotated[
        Path | None,
        typer.Option(help="Folder of sweeps (default ENSGAN_STORAGE or ./ensgan-runs)."),
    ] = None,
    uri: Annotated[
        str | None, typer.Option(help="Tracking address (default MLFLOW_TRACKING_URI).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Look at versions, GPU, disk, tracking server and tokens; exit 1 if something is missing.

    Example: ensgan doctor
    """
    findings = [
        *_versions(),
        *_optional(),
        *_gpu(),
        *_training(),
        *_places(storage or default_storage(), uri),
    ]
    healthy = all(finding.state != "problem" for finding in findings)
    value = {"healthy": healthy, "findings": [asdict(finding) for finding in findings]}
    emit(value, as_json=as_json, table=lambda: _table(findings))
    if not healthy:
        raise typer.Exit(1)


def _table(findings: list[Finding]) -> FittingTable:
    table = FittingTable("state", "what", "how it is", wraps=("how it is",))
    colours = {"ok": "green", "note": "yellow", "problem": "red"}
    for finding in findings:
        mark = Text(finding.state, style=colours[finding.state])
        table.add_row(mark, finding.what, finding.detail)
    return table


def _versions() -> Iterator[Finding]:
    from ensgan.sweep.environment import installed  # late: --help needs none of it

    yield Finding("Python", "ok", f"{platform.python_version()} ({sys.executable})")
    versions = installed(("ensgan", *PACKAGES))
    for package in ("ensgan", *PACKAGES):
        if package in versions:
            yield Finding(package, "ok", versions[package])
        else:
            yield Finding(package, "problem", f"not installed: pip install {package}")


def _optional() -> Iterator[Finding]:
    for module, reason in OPTIONAL.items():
        if find_spec(module) is None:
            yield Finding(module, "note", f"not installed, needed for {reason}")
            continue
        try:
            importlib.import_module(module)
        except Exception as error:  # a wheel built for another torch or CUDA raises anything
            yield Finding(module, "note", f"installed, but it cannot be imported: {error}")
        else:
            yield Finding(module, "ok", "importable")


def _gpu() -> Iterator[Finding]:
    import torch

    if not torch.cuda.is_available():
        seen = shutil.which("nvidia-smi") is not None
        detail = "none: training runs on the CPU"
        if seen and torch.version.cuda is None:
            detail = "nvidia-smi is here, but this torch has no CUDA: install a CUDA build of torch"
        elif seen:
            detail = (
                f"nvidia-smi is here, but torch's CUDA {torch.version.cuda} cannot use it: update "
                "the NVIDIA driver, or install a build of torch for an older CUDA"
            )
        yield Finding("GPU", "problem" if seen else "note", detail)
        return
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        yield Finding(f"GPU {index}", "ok", f"{facts.name}, {facts.total_memory / 2**30:.0f} GB")


def _training() -> Iterator[Finding]:
    """What machine-dependent settings of a sweep mean on this machine."""
    import torch

    from ensgan.precision import resolved_precision
    from ensgan.train.settings import lacks_compiler

    devices = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    formats = {device: resolved_precision("auto", torch.device(device)) for device in devices}
    shown = ", ".join(f"{precision} on {device}" for device, precision in formats.items())
    yield Finding("precision: auto", "ok", f"is {shown}")
    if lacks_compiler():
        yield Finding("compile", "note", "no C++ compiler on the PATH, which compile: true needs")


def _places(storage: Path, uri: str | None) -> Iterator[Finding]:
    yield _checked("storage", lambda: _storage(storage))
    yield _checked("data", _data)
    yield _checked("tracking", lambda: _tracking(uri, storage))
    yield _checked("tokens", _tokens)


def _checked(what: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except OSError as error:
        return Finding(what, "problem", f"{error.strerror or error}")


def _storage(storage: Path) -> Finding:
    place = storage.resolve()
    above = next(folder for folder in (place, *place.parents) if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        return Finding("storage", "problem", f"{above} cannot be written to: set ENSGAN_STORAGE")
    free = shutil.disk_usage(above).free / 2**30
    state: Literal["ok", "note"] = "ok" if free >= ENOUGH_DISK_GB else "note"
    return Finding("storage", state, f"{place}, {free:,.0f} GB free")


def _data() -> Finding:
    place = os.environ.get("ENSGAN_DATA")
    if not place:
        return Finding("data", "note", "ENSGAN_DATA is not set: data sets are in ~/.medmnist")
    if not Path(place).is_dir():
        return Finding("data", "problem", f"ENSGAN_DATA is {place}, which is no folder")
    return Finding("data", "ok", place)


def _tracking(uri: str | None, storage: Path) -> Finding:
    try:
        open_store(uri, storage)
    except EnsganError as error:
        return Finding("tracking", "problem", str(error))
    address = uri or os.environ.get("MLFLOW_TRACKING_URI")
    parts = split_address(address or "")
    if not address or parts is None:
        return Finding("tracking", "ok", f"SQLite in {storage.resolve()}")
    # Without the part before an @, which may contain a password.
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    if parts.scheme not in ("http", "https"):
        return Finding("tracking", "ok", f"{shown} (not contacted)")
    try:
        with urllib.request.urlopen(f"{shown}{parts.path.rstrip('/')}/health", timeout=TIMEOUT_S):
            return Finding("tracking", "ok", f"{shown} answers")
    except urllib.error.HTTPError as error:
        return Finding("tracking", "note", f"{shown} answers with {error.code} {error.reason}")
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        return Finding("tracking", "problem", f"{shown} does not answer: {reason}")


def _tokens() -> Finding:
    given = os.environ.get("ENSGAN_TOKEN")
    service = "ENSGAN_TOKEN is empty, which ensgan serve refuses" if given == "" else ""
    if given:
        service = "ensgan serve asks for ENSGAN_TOKEN"
    ray = "Ray by token" if os.environ.get("RAY_AUTH_MODE") == "token" else "no Ray token"
    state: Literal["ok", "note"] = "note" if given == "" else "ok"
    return Finding("tokens", state, f"{service or 'no ENSGAN_TOKEN'}; {ray}")
