"""What a sweep runs on: its real data; versions, code and machine, for the record."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from ensgan import __version__, data
from ensgan.config import SweepSpec
from ensgan.types import Dataset

PACKAGES = ("torch", "numpy", "ray", "mlflow", "optuna", "safetensors")
"""Packages whose versions can change a result or its record."""


def environment() -> dict[str, str]:
    """Name → value, as text; what is not known is left out."""
    facts = {
        "ensgan": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": str(psutil.cpu_count() or ""),
        "memory_gb": f"{psutil.virtual_memory().total / 2**30:.1f}",
        "commit": commit(),
        "command": " ".join(sys.argv[1:]),
    }
    facts |= installed(PACKAGES)
    return {name: value for name, value in facts.items() if value}


def installed(packages: Iterable[str]) -> dict[str, str]:
    """Versions of those packages that are installed, by name."""
    versions = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def commit() -> str:
    """Git commit of the checkout that ensgan is installed from, ``+`` when it has changes.

    Empty when there is no checkout, or no git.
    """
    here = Path(__file__).parents[2]
    if not (here / ".git").exists():
        return ""
    try:
        head = _git(here, "rev-parse", "HEAD")
        return head + ("+" if head and _git(here, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def machine() -> str:
    """Processor, cores, memory, load and versions in one line, for pages that show figures."""
    # Late: the record of a sweep needs none of it.
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return (
        f"{processor()}, {os.cpu_count()} cores, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GB, {', '.join(gpus) or 'no GPU'}, "
        f"load {os.getloadavg()[1]:.1f} over the last 5 minutes, ensgan {__version__}, "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )


def processor() -> str:
    """The processor's model; empty where the system does not report it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def real_data(spec: SweepSpec, data_dir: Path | None) -> Dataset:
    """The data set of a spec, whose own ``dataset.data_dir`` comes before ``data_dir``.

    Raises:
        DataError: it cannot be read.
    """
    return data.load_dataset(
        spec.dataset.name,
        root=Path(spec.dataset.data_dir) if spec.dataset.data_dir else data_dir,
        image_size=spec.dataset.image_size,
        options=spec.dataset.options,
        seed=spec.seed,
    )
