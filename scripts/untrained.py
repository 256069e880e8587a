#!/usr/bin/env python3
"""Intra-d of every GAN of a finished sweep before its first step, beside its snapshots.

Usage: scripts/untrained.py SWEEP [--storage DIR] [--data-dir DIR] [--count N] [--json]

The untrained generators make the same labels with the same seeds and are scored against the same
real features as the sweep's members; nothing is written to the sweep.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ensgan import embedding, metrics, train, zoo
from ensgan.errors import EnsganError
from ensgan.evaluation.finished_sweep import open_sweep
from ensgan.store import default_storage
from ensgan.sweep.inputs import write_inputs
from ensgan.sweep.member_job import MemberJob, sample_labels
from ensgan.sweep.resolving import resolve
from ensgan.sweep.training_stage import member_jobs
from ensgan.types import Samples


def untrained_intra_d(job: MemberJob, count: int) -> float:
    """Intra-d of a job's generator before training, of ``count`` images."""
    training = Samples.load(job.training_set)
    labels = sample_labels(training.labels, job.classes, count, job.labels, job.sample_seed)
    with tempfile.TemporaryDirectory() as folder:
        row = job.gan()
        snapshot = train.untrained(row, training, job.classes, job.settings, Path(folder))
        generator = zoo.load_generator(snapshot.path, row, training.shape, job.classes)
    images = zoo.sample(generator, labels, seed=job.sample_seed)
    features = embedding.embed(images, embedding.load_extractor(job.scoring.extractor)).features
    real = np.load(job.scoring.reference, allow_pickle=False)
    reference = metrics.prepare(real, job.scoring.k, backend=job.scoring.backend)
    return float(metrics.score_member(reference, features).d)


def rows(
    source: str, storage: Path, data_dir: Path | None, count: int | None
) -> list[dict[str, Any]]:
    """One row per GAN: Intra-d untrained, and of each snapshot in order."""
    sweep = open_sweep(source, storage)
    resolved = resolve(sweep.spec, data_dir)
    inputs = write_inputs(resolved, sweep.folder)
    known = {member.name: member.intra_d for member in sweep.members}
    found = []
    for job in member_jobs(resolved, inputs):
        if not all(name in known for name in job.names):
            continue  # it failed
        before = untrained_intra_d(job, count or job.count)
        found.append(
            {
                "gan": job.name,
                "untrained": before,
                "snapshots": {name: known[name] for name in job.names},
            }
        )
        print(f"{job.name}: untrained {before:.4f}", file=sys.stderr)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep", help="name, folder or run ID of a finished sweep")
    parser.add_argument("--storage", type=Path, default=None)
    parser.add_argument("--data-dir", type=Path, default=None, help="folder of data sets")
    parser.add_argument("--count", type=int, default=None, help="images (default: the sweep's)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    try:
        found = rows(
            options.sweep, options.storage or default_storage(), options.data_dir, options.count
        )
    except EnsganError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps({"gans": found}, indent=1))
        return 0
    for row in found:
        numbers = " ".join(f"{value:.3f}" for value in row["snapshots"].values())
        print(f"{row['gan']:<18} untrained {row['untrained']:.3f}   snapshots {numbers}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
