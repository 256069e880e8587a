"""A job of a sweep's trial that nobody runs: for tests of what decides about trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ensgan import zoo
from ensgan.sweep.member_job import MemberJob, Scoring
from ensgan.train import TrainSettings


def job(name: str = "SNGAN", folder: Path = Path("/nowhere"), **values: Any) -> MemberJob:
    return MemberJob(
        name=name,
        row=zoo.get(name).scaled(0.0625).to_json(),
        plugins=(),
        settings=TrainSettings(steps=10, snapshots=2, seed=0),
        classes=2,
        training_set=folder / "train.npz",
        folder=folder / name,
        count=10,
        labels="training",
        sample_seed=0,
        scoring=Scoring(folder, folder / "extractor", "e", folder / "real.npy", 5, "auto"),
        **values,
    )
