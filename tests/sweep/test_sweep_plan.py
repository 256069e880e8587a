"""What a dry run says without training."""

from __future__ import annotations

import pytest

from ensgan.config import ClusterSpec
from ensgan.sweep.planning.plan import cluster_slots, makespan


@pytest.mark.parametrize(
    ("share", "gpus", "slots"),
    [
        (0.0, 0, 8),  # CPUs alone decide
        (0.25, 1, 4),
        (0.25, 2, 8),
        (0.3, 1, 3),
        (1.0, 1, 1),
        (2.0, 4, 2),
        ("auto", 2, 2),
        (0.1, 1, 8),  # CPUs are short first
    ],
)
def test_slots_are_what_cpus_and_gpus_have_shares_for(
    share: float | str, gpus: int, slots: int
) -> None:
    settings = ClusterSpec(cpus_per_trial=2, gpus_per_trial=share)  # type: ignore[arg-type]
    assert cluster_slots(settings, 16, gpus) == slots


def test_the_longest_job_bounds_the_sweep() -> None:
    assert makespan([5.0, 1.0, 1.0, 1.0], 2) == 5.0
