"""What decides about trials, without a cluster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.search import Searcher
from tiny_sweep import tiny

from ensgan import zoo
from ensgan.cluster import preflight, security, session, trainable, watcher
from ensgan.cluster.preflight import Answer, Question, node_problems
from ensgan.cluster.queue import TrialQueue
from ensgan.cluster.shares import Order, check_satisfiable, gpu_share, orders, slots
from ensgan.cluster.trainable import is_out_of_memory, stop_path
from ensgan.cluster.watcher import Watcher
from ensgan.config import ClusterSpec, parse_spec
from ensgan.errors import ConfigError, InputError, StoreError, TrainingError
from ensgan.pipeline.cost import (
    CONTEXT_BYTES,
    Measured,
    activation_bytes,
    device_bytes,
    with_costs,
)
from ensgan.pipeline.events import Event
from ensgan.pipeline.members import MemberJob
from ensgan.train import TrainSettings
from ensgan.types import ImageShape

GIB = 2**30


def job(name: str = "SNGAN", folder: Path = Path("/nowhere"), **values: Any) -> MemberJob:
    return MemberJob(
        name=name,
        row=zoo.get(name).scaled(0.0625).to_json(),
        plugins=(),
        settings=TrainSettings(steps=10, snapshots=2, seed=0),
        classes=2,
        training_set=folder / "train.npz",
        folder=folder / name,
        results=folder,
        count=10,
        labels="training",
        sample_seed=0,
        extractor=folder / "extractor",
        extractor_key="e",
        reference=folder / "real.npy",
        k=5,
        backend="auto",
        **values,
    )


def test_priority_comes_first_then_the_longest() -> None:
    jobs = [job("SNGAN", effort=1), job("SAGAN", effort=9), job("BigGAN", effort=5)]
    assert [o.gan for o in orders(jobs, ClusterSpec(), None)] == ["SAGAN", "BigGAN", "SNGAN"]
    first = ClusterSpec(priority={"SNGAN": 1})
    assert [o.gan for o in orders(jobs, first, None)] == ["SNGAN", "SAGAN", "BigGAN"]


@given(st.integers(1, 200 * GIB), st.sampled_from([16 * GIB, 80 * GIB]))
def test_a_share_holds_the_memory_and_is_no_more_than_a_gpu(need: int, gpu: int) -> None:
    share = gpu_share(job(memory_bytes=need), ClusterSpec(gpus_per_trial="auto"), gpu)
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
    shares = {order.gan: order.gpus for order in orders(estimated, auto, gpu)}
    assert len(set(shares.values())) > 1, "all rows alike: the memory was not looked at"
    for one in estimated:
        assert shares[one.name] == 1 or one.memory_bytes <= shares[one.name] * gpu
    measured.learn(jobs[0], shape, seconds_per_step=1.0, memory_bytes=18 * GIB)
    again = orders(with_costs(jobs, shape, measured, memory=True), auto, gpu)
    assert {order.gan: order.gpus for order in again} == {**shares, "SNGAN": 0.75}


def test_a_part_of_a_gpu_is_all_that_a_trial_can_take(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[float] = []
    card = SimpleNamespace(total_memory=80 * GIB)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", said.append)
    trainable._confine(1.0)
    assert said == []
    trainable._confine(0.25)
    assert said == [pytest.approx(0.25 - CONTEXT_BYTES / (80 * GIB))]
    trainable._confine(0.0001)
    assert said[-1] == 0.01, "never nothing at all"


def test_unknown_memory_takes_a_whole_gpu() -> None:
    assert gpu_share(job(memory_bytes=0), ClusterSpec(gpus_per_trial="auto"), 80 * GIB) == 1
    assert gpu_share(job(memory_bytes=GIB), ClusterSpec(gpus_per_trial="auto"), None) == 1


def test_out_of_memory_doubles_up_to_a_whole_gpu() -> None:
    first = Order("BigGAN", 1, 0.3)
    second = first.enlarged()
    assert second == Order("BigGAN", 1, 0.6)
    third = second.enlarged()
    assert third is not None and third.gpus == 1 and third.enlarged() is None


def test_out_of_memory_is_known_through_its_wrapping() -> None:
    wrapped = TrainingError("does not fit")
    wrapped.__cause__ = torch.OutOfMemoryError("CUDA")
    assert is_out_of_memory(wrapped) and not is_out_of_memory(TrainingError("a loss is nan"))


def test_what_no_node_can_give_is_refused() -> None:
    nodes = [{"CPU": 8.0}, {"CPU": 4.0, "GPU": 1.0}]
    check_satisfiable([Order("a", 8, 0), Order("b", 1, 0.5)], nodes, may_grow=False)
    with pytest.raises(InputError, match=r"asks for 2 GPU, the cluster's largest node has 1"):
        check_satisfiable([Order("a", 1, 2)], nodes, may_grow=False)
    check_satisfiable([Order("a", 1, 2)], nodes, may_grow=True)


def test_slots_follow_the_scarcest_resource() -> None:
    assert slots(Order("a", 1, 0), [{"CPU": 2.0}, {"CPU": 3.0}]) == 5
    assert slots(Order("a", 1, 0.3), [{"CPU": 16.0, "GPU": 2.0}]) == 6
    assert slots(Order("a", 4, 0.25), [{"CPU": 8.0, "GPU": 4.0}]) == 2


def test_the_queue_waits_for_what_may_come_back() -> None:
    queue = TrialQueue([Order("a", 1, 0.5), Order("b", 1, 0.5)])
    assert queue.suggest("1") == {"gan": "a", "cpus": 1, "gpus": 0.5, "until": None}
    assert queue.suggest("2") == {"gan": "b", "cpus": 1, "gpus": 0.5, "until": None}
    assert queue.suggest("3") is None
    queue.put_first(Order("a", 1, 1.0))
    queue.on_trial_complete("1")
    assert queue.suggest("3") == {"gan": "a", "cpus": 1, "gpus": 1.0, "until": None}
    queue.on_trial_complete("2")
    assert queue.suggest("4") is None
    queue.on_trial_complete("3", error=True)
    assert queue.suggest("4") == Searcher.FINISHED


def test_the_queue_keeps_to_its_limit() -> None:
    queue = TrialQueue([Order("a", 1, 0), Order("b", 1, 0)], at_once=1)
    assert queue.suggest("1") is not None and queue.suggest("2") is None
    queue.on_trial_complete("1")
    assert queue.suggest("2") is not None


class FakeTrial(SimpleNamespace):
    """What the watcher sees of a Tune trial."""

    def get_error(self) -> Exception:
        return self.error


@pytest.fixture
def watched(tmp_path: Path) -> tuple[Watcher, list[Event], TrialQueue]:
    events: list[Event] = []
    queue = TrialQueue([])
    jobs = [job("SNGAN", tmp_path), job("SAGAN", tmp_path)]
    return Watcher(queue, jobs, lambda result: None, events.append), events, queue


def beat(watched: Watcher, gan: str, step: int) -> None:
    from ensgan.files import write_json

    write_json(watcher.heartbeat_path(watched.jobs[gan]), {"step": step, "time": 0.0})


def test_a_lost_node_costs_no_retry_a_lost_process_without_progress_does(watched: Any) -> None:
    watch, events, _ = watched
    trial = FakeTrial(
        trial_id="1",
        config={"gan": "SNGAN"},
        max_failures=2,
        error=RuntimeError("The actor's node died"),
    )
    watch.on_trial_recover(0, [], trial)
    assert trial.max_failures == 3 and events[-1].fields["kind"] == "node"
    trial.error = RuntimeError("its worker process has died")
    beat(watch, "SNGAN", 50)
    watch.on_trial_recover(0, [], trial)
    assert trial.max_failures == 4, "it had got further"
    watch.on_trial_recover(0, [], trial)
    assert trial.max_failures == 4, "it had not"
    assert [e.fields["kind"] for e in events] == ["node", "process", "process"]
    assert events[-1].fields["step"] == 50 and watch.failed == {}


def test_lost_while_starting_comes_back_and_lost_too_often_does_not(watched: Any) -> None:
    watch, events, queue = watched
    config = Order("SNGAN", 1.0, 0.0).config
    starting = SimpleNamespace(num_failures=1)
    trial = FakeTrial(
        config=config, max_failures=2, run_metadata=starting, error=RuntimeError("it died")
    )
    for _ in range(2):
        watch.on_trial_error(0, [], trial)
        assert queue.waiting.pop() == Order("SNGAN", 1.0, 0.0)
    watch.on_trial_error(0, [], trial)
    assert watch.failed == {"SNGAN": "lost too often: it died"} and not queue.waiting
    running = SimpleNamespace(num_failures=3)
    other = FakeTrial(
        config=Order("SAGAN", 1.0, 0.0).config,
        max_failures=2,
        run_metadata=running,
        error=RuntimeError("it died"),
    )
    watch.on_trial_error(0, [], other)
    assert "SAGAN" in watch.failed and not queue.waiting
    assert [event.kind for event in events] == ["lost", "lost", "failed", "failed"]


def test_a_code_error_fails_one_gan_at_once(watched: Any) -> None:
    watch, events, queue = watched
    trial = FakeTrial(config={"gan": "SAGAN", "cpus": 1.0, "gpus": 0.0})
    watch.on_trial_result(0, [], trial, {"gan": "SAGAN", "error": "a loss is nan"})
    assert watch.failed == {"SAGAN": "a loss is nan"} and queue.waiting == []
    assert events[-1].kind == "failed"


def test_results_that_cannot_be_written_end_all_trials_and_blame_none(watched: Any) -> None:
    watch, events, queue = watched
    queue.waiting = [Order("SAGAN", 1.0, 0.0)]
    queue.running = {"1": Order("SNGAN", 1.0, 0.0)}
    trial = FakeTrial(trial_id="1", config=queue.running["1"].config)
    watch.on_trial_result(0, [], trial, {"gan": "SNGAN", "storage": "cannot write x: no space"})
    assert queue.halted == "cannot write x: no space" and queue.suggest("2") is None
    assert stop_path(watch.jobs["SNGAN"]).exists()
    queue.on_trial_complete("1")
    assert queue.suggest("2") == Searcher.FINISHED
    assert watch.failed == {} and events == []


def test_a_manifest_that_cannot_be_written_ends_all_trials(watched: Any) -> None:
    watch, _, queue = watched

    def full(*_: object) -> None:
        raise StoreError("cannot write manifest.json: no space")

    watch.on_event = full
    watch.on_trial_result(0, [], FakeTrial(config={}), {"gan": "SAGAN", "error": "a loss is nan"})
    assert queue.halted == "cannot write manifest.json: no space"


def test_out_of_memory_comes_back_with_more_until_it_has_all(watched: Any) -> None:
    watch, events, queue = watched
    config = {"gan": "SAGAN", "cpus": 1.0, "gpus": 0.5}
    report = {"gan": "SAGAN", "out of memory": "does not fit"}
    watch.on_trial_result(0, [], FakeTrial(config=config), report)
    assert queue.waiting == [Order("SAGAN", 1.0, 1.0)] and watch.failed == {}
    watch.on_trial_result(0, [], FakeTrial(config=queue.waiting.pop().config), report)
    assert queue.waiting == [] and watch.failed == {"SAGAN": "does not fit"}
    assert [e.kind for e in events] == ["warning", "failed"]


@pytest.fixture
def question(tmp_path: Path) -> Question:
    (tmp_path / "train.npz").write_bytes(b"images")
    (tmp_path / "preflight").mkdir()
    (tmp_path / "preflight" / "driver-t").write_text("t")
    return Question(tmp_path, "t", tmp_path / "train.npz")


def test_a_node_like_the_driver_has_no_problem(question: Question) -> None:
    said = preflight.answer(question, "n", wants_gpu=False)
    seen = (question.folder / "preflight" / "node-n-t").exists()
    data = preflight.sha256_file(question.data)
    assert node_problems("n", said, question, seen, 1, data) == []


def test_every_problem_of_a_node_is_named(question: Question) -> None:
    good = preflight.answer(question, "n", wants_gpu=False)

    def problems(said: Answer | str, seen: bool = True, needed: int = 1) -> str:
        data = preflight.sha256_file(question.data)
        return "; ".join(node_problems("n1", said, question, seen, needed, data))

    assert "does not share" in problems(replace(good, read=None))
    assert "does not share" in problems(good, seen=False)
    assert "cannot write" in problems(replace(good, wrote="Read-only file system"))
    assert "other training data" in problems(replace(good, data="0"))
    assert "MB free" in problems(good, needed=2**60)
    assert "cannot run ensgan (No module named 'ensgan')" in problems("No module named 'ensgan'")
    old = replace(good, versions={**good.versions, "torch": "2.1", "python": "3.10"})
    assert "has torch 2.1, the driver" in problems(old) and "python 3.10" in problems(old)


def test_clock_skew_is_told(question: Question) -> None:
    good = preflight.answer(question, "n", wants_gpu=False)
    assert preflight._clock_warning("n", good, good.clock - 1) is None
    late = preflight._clock_warning("n", replace(good, clock=good.clock - 90), good.clock)
    assert late is not None and "90 s off" in late


def test_loopback_is_told_from_the_rest() -> None:
    assert security.is_loopback("127.0.0.1") and security.is_loopback("[::1]")
    assert not security.is_loopback("192.0.2.7")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("ray://10.0.0.1:10001", "ray job submit"),
        ("somewhere", "use local, auto, HOST:PORT, ray://HOST:PORT or none"),
        ("127.0.0.1:1", "no Ray cluster at '127.0.0.1:1': nobody answers there"),
    ],
)
def test_addresses_that_cannot_work(address: str, expected: str) -> None:
    with (
        pytest.raises(InputError) as refused,
        session.ray_session(address),
    ):
        pass
    assert expected in str(refused.value)


def test_bad_cluster_sections_are_named() -> None:
    with pytest.raises(ConfigError, match=r"1\.5 GPUs: use auto"):
        parse_spec(tiny(cluster={"gpus_per_trial": 1.5}))
    with pytest.raises(ConfigError, match="unknown GAN 'SNGA'"):
        parse_spec(tiny(cluster={"priority": {"SNGA": 1}}), known={"GAN": ["SNGAN"]})
    assert parse_spec(tiny(cluster={"gpus_per_trial": "auto"})).cluster.gpus_per_trial == "auto"


def test_measured_figures_replace_estimates(tmp_path: Path) -> None:
    shape = ImageShape(1, 32)
    measured = Measured(tmp_path / "measured.json")
    jobs = [job("SNGAN"), job("BigGAN"), job("StyleGAN2")]
    before = with_costs(jobs, shape, measured, memory=True)
    assert all(one.effort > 0 and one.memory_bytes > 700 * 2**20 for one in before)
    measured.learn(jobs[0], shape, seconds_per_step=2.0, memory_bytes=3 * GIB)
    measured.learn(jobs[1], shape, seconds_per_step=None)
    after = with_costs(jobs, shape, measured, memory=True)
    assert after[0].effort == 20.0 and after[0].memory_bytes == 3 * GIB
    assert after[1].effort == pytest.approx(before[1].effort * 20 / before[0].effort)
    assert with_costs(jobs, shape, measured, memory=False)[0].memory_bytes == 0
    (tmp_path / "measured.json").write_text("not json")
    assert with_costs(jobs, shape, measured, memory=False)[0].effort == before[0].effort


@pytest.mark.parametrize("name", ["SAGAN", "BigGAN-Info", "ReACGAN-TAC", "StyleGAN2-ADA"])
def test_memory_of_activations_grows_with_the_batch(name: str) -> None:
    row, shape = zoo.get(name).scaled(0.125), ImageShape(3, 32)
    small, large = (activation_bytes(row, shape, 3, batch) for batch in (4, 8))
    assert 1.5 * small < large < 2.5 * small
    assert device_bytes(job(name), shape) > device_bytes(job("SNGAN"), shape)
