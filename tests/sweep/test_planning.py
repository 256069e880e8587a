"""How many trials run at once and how long a step takes, as the dry run says it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from tiny_sweep import tiny

from ensgan.config import parse_spec
from ensgan.sweep.member_job import MemberJob
from ensgan.sweep.planning import cost, plan
from ensgan.sweep.planning.cost import slots_of
from ensgan.sweep.planning.measured import Measured
from ensgan.sweep.resolving import Resolved, resolve
from ensgan.train.cost import WIDTHS, Machine, step_work

GIB = 2**30


def test_slots_follow_the_scarcest_resource() -> None:
    assert slots_of(1, 0, cpus=16, gpus=0) == 16
    assert slots_of(2, 0, cpus=5, gpus=8) == 2
    assert slots_of(1, 1, cpus=16, gpus=2) == 2
    assert slots_of(1, 2, cpus=16, gpus=5) == 2
    assert slots_of(1, 0.25, cpus=16, gpus=1) == 4
    assert slots_of(1, 0.3, cpus=16, gpus=2) == 6, "no share spans two GPUs"
    assert slots_of(4, 0.1, cpus=16, gpus=2) == 4


def resolved(**cluster: Any) -> Resolved:
    gans = ["SNGAN", "ACGAN-Mod", "BigGAN", "SAGAN", "StyleGAN2", "MHGAN"]
    return resolve(parse_spec(tiny(train={"gans": gans}, cluster=cluster)))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretends a machine of 16 CPUs and some GPUs."""

    def make(gpus: int, gigabytes: float = 80) -> None:
        card = SimpleNamespace(total_memory=int(gigabytes * GIB))
        monkeypatch.setattr(plan.psutil, "cpu_count", lambda logical: 16)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)

    return make


def test_gpus_bound_the_slots_of_a_dry_run(machine: Any) -> None:
    machine(2)
    assert plan._slots(resolved()) == (6, 2), "no GPU asked for: a slot per CPU, for six GANs"
    assert plan._slots(resolved(gpus_per_trial=1.0)) == (2, 2)
    assert plan._slots(resolved(gpus_per_trial=0.5)) == (4, 2)
    assert plan._slots(resolved(gpus_per_trial=0.5, max_concurrent=3)) == (3, 2)
    machine(0)
    assert plan._slots(resolved(gpus_per_trial=0.5)) == (2, 1), "of one GPU, where there is none"


def test_shares_by_memory_bound_them_too(machine: Any) -> None:
    auto = resolved(gpus_per_trial="auto")
    machine(1, gigabytes=80)
    assert plan._slots(auto) == (6, 1)
    machine(1, gigabytes=1.5)  # a CUDA context alone takes nearly half of it
    assert plan._slots(auto) == (2, 1)
    machine(1, gigabytes=1.2)
    assert plan._slots(auto) == (1, 1)
    machine(0)
    assert plan._slots(auto) == (1, 1), "a whole GPU each, as long as its memory is unknown"
    machine(1, gigabytes=80)
    few = resolved(gpus_per_trial="auto", gans_per_process=2)
    assert plan._slots(few) == (2, 1), "no more share one than are to"


def test_hours_of_gpus_come_from_a_table_or_from_earlier_trainings(
    machine: Any, tmp_path: Path
) -> None:
    """Two on a GPU take as long as one after the other; what was measured on GPUs goes first."""
    machine(0)
    sweep = resolve(parse_spec(tiny(cluster={"gpus_per_trial": 0.5})))
    found = plan.make_plan(sweep, tmp_path)
    assert found.device == "NVIDIA H200" and found.slots == 2
    assert found.gpu_hours == pytest.approx(found.training_seconds / 3600)
    assert found.wall_seconds == pytest.approx(found.training_seconds)
    gan, shape = sweep.configurations[0], sweep.dataset.shape
    job = SimpleNamespace(row=gan.row.to_json(), settings=gan.settings, classes=2, name=gan.name)
    taken = {"seconds_per_step": 7.0}
    for memory, seconds in ((None, found.rows[0].seconds_per_step), (GIB, 7.0)):
        figures = [(cast(MemberJob, job), {**taken, "memory_bytes": memory})]
        Measured(tmp_path / "measured.json").learn(figures, shape)
        made = plan.make_plan(sweep, tmp_path)
        assert made.rows[0].seconds_per_step == seconds
    one_known = f"1 of {len(made.rows)} GANs as they trained here before, the others by"
    assert "before" not in found.remark and one_known in made.remark
    assert plan.make_plan(resolve(parse_spec(tiny())), tmp_path).gpu_hours is None


def test_of_each_gan_one_configuration_is_counted_and_the_others_follow(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    counted, count = [], cost.step_parts

    def noted(row: Any, *rest: Any) -> Any:
        counted.append(row.name)
        return count(row, *rest)

    rates = Machine((1e9,) * len(WIDTHS), 1e9, 1e-6)
    monkeypatch.setattr(cost, "step_parts", noted)
    monkeypatch.setattr("ensgan.sweep.planning.cost._measured_machine", lambda *_: rates)
    vary = {"width": [0.5, 1.0], "batch": [8, 32], "d_updates": [1, 3], "seed": [0, 1]}
    sweep = resolve(parse_spec(tiny(train={"gans": ["BigGAN", "StyleGAN2"], "vary": vary})))
    made = {row.gan: row for row in plan.make_plan(sweep, tmp_path).rows}
    assert len(made) == 32
    assert sorted(name.split("~")[0] for name in counted) == ["BigGAN", "StyleGAN2"]
    for gan in sweep.configurations:
        if "-s1" in gan.name:
            alike = made[gan.name.replace("-s1", "")]
            assert made[gan.name].seconds_per_step == alike.seconds_per_step
        elif gan.name == "BigGAN~w0.5-b8-d3":  # farthest from the largest
            work = step_work(gan.row, sweep.dataset.shape, 2, gan.settings)
            exact = rates.seconds(work)
            assert made[gan.name].seconds_per_step == pytest.approx(exact, rel=0.25)
