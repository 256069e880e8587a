"""How much of a GPU each trial gets, by estimate, by measurement and after it was not enough."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from member_job import job

from ensgan import zoo
from ensgan.cluster import trainable
from ensgan.cluster.tasks import check_fits, task_slots
from ensgan.cluster.trainable import is_out_of_memory
from ensgan.cluster.trial_queue import TrialRequest, trial_requests
from ensgan.config import ClusterSpec
from ensgan.errors import InputError, TrainingError
from ensgan.sweep.executor import Needs
from ensgan.sweep.planning.cost import (
    CONTEXT_BYTES,
    device_bytes,
    gpu_share,
    with_costs,
)
from ensgan.sweep.planning.measured import Measured
from ensgan.train import TrainSettings
from ensgan.types import ImageShape

GIB = 2**30


def test_priority_comes_first_then_the_longest() -> None:
    jobs = [job("SNGAN", effort=1), job("SAGAN", effort=9), job("BigGAN", effort=5)]
    assert [request.gan for request in trial_requests(jobs, ClusterSpec(), None)] == [
        "SAGAN",
        "BigGAN",
        "SNGAN",
    ]
    first = ClusterSpec(priority={"SNGAN": 1})
    assert [request.gan for request in trial_requests(jobs, first, None)] == [
        "SNGAN",
        "SAGAN",
        "BigGAN",
    ]


@given(st.integers(1, 200 * GIB), st.sampled_from([16 * GIB, 80 * GIB]))
def test_a_share_holds_the_memory_and_is_no_more_than_a_gpu(need: int, gpu: int) -> None:
    share = gpu_share(ClusterSpec(gpus_per_trial="auto"), need, gpu)
    assert 0 < share <= 1
    assert share == 1 or need <= share * gpu <= need + 0.05 * gpu + 1


def test_rows_get_different_parts_of_a_gpu_and_what_was_measured_counts_more(
    tmp_path: Path,
) -> None:
    """Full-width networks on a GPU of 24 GB that is not here."""
    gpu, shape, auto = 24 * GIB, ImageShape(1, 32), ClusterSpec(gpus_per_trial="auto")
    jobs = [
        replace(job(name), row=zoo.get(name).to_json(), settings=TrainSettings(10, 2, 0))
        for name in ("SNGAN", "BigGAN", "StyleGAN2")
    ]
    measured = Measured(tmp_path / "measured.json")
    estimated = with_costs(jobs, shape, measured, memory=True)
    shares = {one.gan: one.gpus for one in trial_requests(estimated, auto, gpu)}
    assert len(set(shares.values())) > 1, "all rows alike: the memory was not looked at"
    for one in estimated:
        assert shares[one.name] == 1 or one.memory_bytes <= shares[one.name] * gpu
    measured.learn([(jobs[0], {"seconds_per_step": 1.0, "memory_bytes": 18 * GIB})], shape)
    again = trial_requests(with_costs(jobs, shape, measured, memory=True), auto, gpu)
    assert {one.gan: one.gpus for one in again} == {**shares, "SNGAN": 0.75}


def test_a_part_of_a_gpu_is_all_that_a_trial_can_take(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[float] = []
    card = SimpleNamespace(total_memory=80 * GIB)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", said.append)
    trainable.confine(1.0)
    assert said == []
    trainable.confine(0.25)
    assert said == [pytest.approx(0.25 - CONTEXT_BYTES / (80 * GIB))]
    trainable.confine(0.0001)
    assert said[-1] == 0.01, "never nothing at all"


def test_unknown_memory_takes_a_whole_gpu() -> None:
    assert gpu_share(ClusterSpec(gpus_per_trial="auto"), 0, 80 * GIB) == 1
    assert gpu_share(ClusterSpec(gpus_per_trial="auto"), GIB, None) == 1


def test_out_of_memory_doubles_up_to_a_whole_gpu() -> None:
    first = TrialRequest("BigGAN", 1, 0.3)
    second = first.enlarged()
    assert second == TrialRequest("BigGAN", 1, 0.6)
    third = second.enlarged()
    assert third is not None and third.gpus == 1 and third.enlarged() is None


def test_out_of_memory_is_known_through_its_wrapping() -> None:
    wrapped = TrainingError("does not fit")
    wrapped.__cause__ = torch.OutOfMemoryError("CUDA")
    assert is_out_of_memory(wrapped) and not is_out_of_memory(TrainingError("a loss is nan"))


def test_what_no_node_can_give_is_refused() -> None:
    nodes = [{"CPU": 8.0}, {"CPU": 4.0, "GPU": 1.0}]
    check_fits("a trial", Needs(4, 0.5), nodes, "")
    with pytest.raises(InputError, match=r"a trial asks for 8 CPU and 0\.5 GPU, and no node"):
        check_fits("a trial", Needs(8, 0.5), nodes, "")
    expected = r"a task asks for 2 GPU, the cluster's largest node has 1: lower --gpus-per-task"
    with pytest.raises(InputError, match=expected):
        check_fits("a task", Needs(1, 2), nodes, "lower --{}s-per-task")


def test_slots_follow_the_scarcest_resource() -> None:
    assert task_slots(Needs(1, 0), [{"CPU": 2.0}, {"CPU": 3.0}]) == 5
    assert task_slots(Needs(1, 0.3), [{"CPU": 16.0, "GPU": 2.0}]) == 6
    assert task_slots(Needs(4, 0.25), [{"CPU": 8.0, "GPU": 4.0}]) == 2


def test_measured_figures_replace_estimates(tmp_path: Path) -> None:
    shape = ImageShape(1, 32)
    measured = Measured(tmp_path / "measured.json")
    jobs = [job("SNGAN"), job("BigGAN"), job("StyleGAN2")]
    before = with_costs(jobs, shape, measured, memory=True)
    assert all(one.effort > 0 and one.memory_bytes > 700 * 2**20 for one in before)
    figures = {"seconds_per_step": 2.0, "memory_bytes": 3 * GIB}
    measured.learn([(jobs[0], figures), (jobs[1], {"seconds_per_step": None})], shape)
    after = with_costs(jobs, shape, measured, memory=True)
    assert after[0].effort == 20.0 and after[0].memory_bytes == 3 * GIB
    assert [one.seconds_per_step for one in after] == [2.0, None, None]
    assert after[1].effort == pytest.approx(before[1].effort * 20 / before[0].effort)
    assert with_costs(jobs, shape, measured, memory=False)[0].memory_bytes == 0
    (tmp_path / "measured.json").write_text("not json")
    assert with_costs(jobs, shape, measured, memory=False)[0].effort == before[0].effort


@pytest.mark.parametrize("name", ["SAGAN", "BigGAN-Info", "ReACGAN-TAC", "StyleGAN2-ADA"])
def test_memory_on_a_gpu_grows_with_the_batch_and_shrinks_with_the_precision(name: str) -> None:
    row, shape = zoo.get(name).scaled(0.125), ImageShape(3, 32)
    small, large, half = (
        device_bytes(row, TrainSettings(10, 2, 0, batch=batch, precision=precision), shape, 3)
        for batch, precision in ((16, "float32"), (32, "float32"), (32, "bfloat16"))
    )
    # Past the CUDA context, weights and activations: the latter double with the batch.
    assert small < large < 2 * small - CONTEXT_BYTES
    assert CONTEXT_BYTES < half < large
    assert device_bytes(row, TrainSettings(10, 2, 0), shape, 3) > device_bytes(
        zoo.get("SNGAN").scaled(0.0625), TrainSettings(10, 2, 0), shape, 3
    )
