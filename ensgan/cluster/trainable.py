"""A Tune trial: one GAN of a sweep."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ray import tune

from ensgan.errors import EnsganError
from ensgan.files import write_json
from ensgan.pipeline.members import MemberJob, MemberResult, grow
from ensgan.train import TrainProgress

HEARTBEAT_SECONDS = 1.0


def heartbeat_path(job: MemberJob) -> Path:
    """Where the trial of a job says how far it is."""
    return job.folder / "heartbeat.json"


def gan_trial(config: dict[str, Any], jobs: Mapping[str, MemberJob]) -> None:
    """Grow the members of one GAN, reporting a checkpoint per snapshot.

    An error of training ends the trial with a report, because repeating it would end the same way;
    only the loss of a process or node makes Tune start the trial again.
    """
    job = jobs[config["gan"]]
    torch.set_num_threads(job.threads)
    beat = _Heartbeat(heartbeat_path(job))
    try:
        for result in grow(job, beat):
            _report(job, result)
    except EnsganError as error:
        tune.report({"gan": job.name, "error": str(error)})


def _report(job: MemberJob, result: MemberResult) -> None:
    """Report a member; its checkpoint is the snapshot's generator."""
    with tempfile.TemporaryDirectory(dir=job.folder) as folder:
        linked = Path(folder) / result.weights.name
        os.link(result.weights, linked)
        write_json(Path(folder) / "member.json", result.to_json())
        tune.report(
            {
                "gan": job.name,
                "step": int(result.name.rpartition("@")[2]),
                "intra_d": result.intra_d,
                "density": result.density,
                "coverage": result.coverage,
                "member": result.to_json(),
            },
            checkpoint=tune.Checkpoint.from_directory(folder),
        )


class _Heartbeat:
    """Writes the progress of a trial at most once a second."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = 0.0

    def __call__(self, progress: TrainProgress) -> None:
        now = time.monotonic()
        if now - self.last >= HEARTBEAT_SECONDS:
            self.last = now
            write_json(self.path, {**progress.to_json(), "time": time.time(), "pid": os.getpid()})
