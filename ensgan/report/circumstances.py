"""When, where and with which code something was measured."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path

import psutil
import torch

import ensgan


def commit() -> str:
    """The commit of the code that runs, marked where files differ from it; empty when unknown."""
    folder = str(Path(ensgan.__file__).parent)
    try:
        found = subprocess.run(
            ["git", "-C", folder, "describe", "--always", "--dirty", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


def machine() -> str:
    """Processor, cores, memory, load and versions in one line."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    load = os.getloadavg()[1]
    return (
        f"{_processor()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GB, "
        f"{', '.join(gpus) or 'no GPU'}, load {load:.1f} over the last 5 minutes, "
        f"ensgan {ensgan.__version__}, Python {platform.python_version()}, "
        f"torch {torch.__version__}"
    )


def now() -> str:
    """Day and time, UTC."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
