"""What decides about trials, without a cluster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from member_job import job
from ray.tune.search import Searcher
from tiny_sweep import tiny

from ensgan.cluster import preflight, session, tune_callback
from ensgan.cluster.budget import Budget, Spending
from ensgan.cluster.preflight import Answer, Question, node_problems
from ensgan.cluster.trial_queue import TrialQueue, TrialRequest
from ensgan.cluster.tune_callback import TuneCallback
from ensgan.config import ClusterSpec, parse_spec
from ensgan.errors import ConfigError, InputError, StoreError
from ensgan.files import write_json
from ensgan.launch.executors import (
    EXECUTORS,
    ExecutorKind,
    check_address,
    executor_at,
    mapper_at,
)
from ensgan.launch.sweep import run_sweep
from ensgan.sweep.events import Event, OnEvent, ignore
from ensgan.sweep.executor import LocalExecutor
from ensgan.sweep.live.order import TrainingOrder
from ensgan.sweep.live.trial_report import heartbeat_path, own_stop_path


@pytest.fixture
def queue_of(tmp_path: Path) -> Any:
    """Makes a queue of requests; GANs that none of them names may still come."""

    def make(
        *requests: TrialRequest, max_concurrent: int | None = None, on_event: OnEvent = ignore
    ) -> TrialQueue:
        jobs = [job(name, tmp_path) for name in ("SNGAN", "SAGAN")]
        spending = Spending(None, jobs, dict.fromkeys(("SNGAN", "SAGAN"), 1.0))
        files = {each.name: own_stop_path(each) for each in jobs}
        order = TrainingOrder(requests, files, on_event=on_event)
        return TrialQueue(order, spending, tmp_path / "stop", max_concurrent)

    return make


FIRST, SECOND = TrialRequest("SNGAN", 1, 0.5), TrialRequest("SAGAN", 1, 0.5)


def test_the_queue_waits_for_what_may_come_back(queue_of: Any) -> None:
    queue = queue_of(FIRST, SECOND)
    first, second = queue.suggest("1"), queue.suggest("2")
    assert TrialRequest.of(first) == FIRST and first["job"].name == "SNGAN"
    assert TrialRequest.of(second) == SECOND and second["job"].name == "SAGAN"
    assert queue.suggest("3") is None
    queue.run_next(TrialRequest("SNGAN", 1, 1.0))
    queue.on_trial_complete("1")
    assert TrialRequest.of(queue.suggest("3")) == TrialRequest("SNGAN", 1, 1.0)
    queue.on_trial_complete("2")
    assert queue.suggest("4") is None
    queue.on_trial_complete("3", error=True)
    assert queue.suggest("4") == Searcher.FINISHED


def test_the_queue_keeps_to_its_limit(queue_of: Any) -> None:
    queue = queue_of(FIRST, SECOND, max_concurrent=1)
    assert queue.suggest("1") is not None and queue.suggest("2") is None
    queue.on_trial_complete("1")
    assert queue.suggest("2") is not None


def test_a_full_disk_does_not_keep_trials_from_being_stopped(queue_of: Any) -> None:
    queue = queue_of(FIRST)
    queue.suggest("1")
    queue.stop_file = queue.stop_file / "below a file" / "stop"
    queue.stop_file.parents[1].touch()
    queue.stop_running()
    queue.halt("the disk is full")
    assert queue.halted == "the disk is full"


class FakeTrial(SimpleNamespace):
    """What the callback sees of a Tune trial."""

    def get_error(self) -> Exception:
        return self.error


@pytest.fixture
def watched(queue_of: Any) -> tuple[TuneCallback, list[Event], TrialQueue]:
    events: list[Event] = []
    queue = queue_of(on_event=events.append)
    return TuneCallback(queue, lambda result: None, events.append), events, queue


def write_heartbeat(callback: TuneCallback, gan: str, step: int, **values: Any) -> None:
    heartbeat = {"gan": gan, "step": step, "time": 0.0, **values}
    write_json(heartbeat_path(callback.jobs[gan]), heartbeat)


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
    write_heartbeat(watch, "SNGAN", 50)
    watch.on_trial_recover(0, [], trial)
    assert trial.max_failures == 4, "it had got further"
    watch.on_trial_recover(0, [], trial)
    assert trial.max_failures == 4, "it had not"
    assert [e.fields["kind"] for e in events] == ["node", "process", "process"]
    assert events[-1].fields["step"] == 50 and watch.queue.order.failed == {}


def test_an_unreachable_trial_is_lost_with_its_node_or_alone(
    watched: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection breaks first; whether the node leaves the cluster tells which it was."""
    monkeypatch.setattr(tune_callback, "NODE_SECONDS", 0.3)
    watch, events, _ = watched
    write_heartbeat(watch, "SNGAN", 3, ray_node="gone")
    error = RuntimeError("The actor is temporarily unavailable: Connection reset by peer")
    trial = FakeTrial(trial_id="1", config={"gan": "SNGAN"}, max_failures=2, error=error)
    for living, kind in ((["head"], "node"), (["head", "gone"], "process")):
        nodes = [{"Alive": True, "NodeID": node} for node in living]
        monkeypatch.setattr("ray.nodes", lambda nodes=nodes: nodes)
        watch.on_trial_recover(0, [], trial)
        assert events[-1].fields["kind"] == kind


def test_the_reason_is_read_where_tune_writes_it(watched: Any, tmp_path: Path) -> None:
    """Tune's own reading looks on the storage, where the file arrives later."""
    watch, events, _ = watched
    file = tmp_path / "error.txt"
    file.write_text("Failure # 1 (at noon)\nfirst\nFailure # 2 (at one)\nthe node has died\n")
    trial = FakeTrial(
        trial_id="1", config={"gan": "SNGAN"}, max_failures=2, error=None, error_file=str(file)
    )
    watch.on_trial_recover(0, [], trial)
    assert events[-1].fields["kind"] == "node"
    assert events[-1].fields["reason"] == "the node has died"


def test_lost_while_starting_comes_back_and_lost_too_often_does_not(watched: Any) -> None:
    watch, events, queue = watched
    config = TrialRequest("SNGAN", 1.0, 0.0).config
    starting = SimpleNamespace(num_failures=1)
    trial = FakeTrial(
        config=config, max_failures=2, run_metadata=starting, error=RuntimeError("it died")
    )
    for _ in range(2):
        watch.on_trial_error(0, [], trial)
        assert queue.order.waiting.pop() == TrialRequest("SNGAN", 1.0, 0.0)
    watch.on_trial_error(0, [], trial)
    assert (
        watch.queue.order.failed == {"SNGAN": "lost too often: it died"} and not queue.order.waiting
    )
    running = SimpleNamespace(num_failures=3)
    other = FakeTrial(
        config=TrialRequest("SAGAN", 1.0, 0.0).config,
        max_failures=2,
        run_metadata=running,
        error=RuntimeError("it died"),
    )
    watch.on_trial_error(0, [], other)
    assert "SAGAN" in watch.queue.order.failed and not queue.order.waiting
    assert [event.kind for event in events] == ["lost", "lost", "failed", "failed"]


def test_a_code_error_fails_one_gan_at_once(watched: Any) -> None:
    watch, events, queue = watched
    trial = FakeTrial(config={"gan": "SAGAN", "cpus": 1.0, "gpus": 0.0})
    watch.on_trial_result(0, [], trial, {"gan": "SAGAN", "error": "a loss is nan"})
    assert watch.queue.order.failed == {"SAGAN": "a loss is nan"} and queue.order.waiting == []
    assert events[-1].kind == "failed"


def test_results_that_cannot_be_written_end_all_trials_and_blame_none(watched: Any) -> None:
    watch, events, queue = watched
    queue.order.waiting = [TrialRequest("SAGAN", 1.0, 0.0)]
    queue.order.running = {"1": TrialRequest("SNGAN", 1.0, 0.0)}
    trial = FakeTrial(trial_id="1", config=queue.running["1"].config)
    watch.on_trial_result(0, [], trial, {"gan": "SNGAN", "storage": "cannot write x: no space"})
    assert queue.halted == "cannot write x: no space" and queue.suggest("2") is None
    assert queue.stop_file.exists()
    queue.on_trial_complete("1")
    assert queue.suggest("2") == Searcher.FINISHED
    assert watch.queue.order.failed == {} and events == []


def test_a_manifest_that_cannot_be_written_ends_all_trials(watched: Any) -> None:
    watch, _, queue = watched

    def full(*_: object) -> None:
        raise StoreError("cannot write manifest.json: no space")

    watch.on_event = queue.order.on_event = full
    watch.on_trial_result(0, [], FakeTrial(config={}), {"gan": "SAGAN", "error": "a loss is nan"})
    assert queue.halted == "cannot write manifest.json: no space"


def test_heartbeats_are_told_once_and_teach_the_costs(watched: Any) -> None:
    callback, events, queue = watched
    queue.order.running = {"1": TrialRequest("SNGAN", 1.0, 0.0)}
    queue.spending.trial_started("1", queue.running["1"].gan)
    callback.on_step_end(0, [])
    assert events == [], "it has not begun"
    write_heartbeat(callback, "SNGAN", 4, steps_per_second=2.0)
    for _ in range(2):
        callback._next_poll = 0.0
        callback.on_step_end(0, [])
    assert [event.kind for event in events] == ["progress"] and events[0].fields["step"] == 4
    assert queue.spending.seconds("SNGAN", 5) == 2.5


def test_out_of_memory_comes_back_with_more_until_it_has_all(watched: Any) -> None:
    watch, events, queue = watched
    config = {"gan": "SAGAN", "cpus": 1.0, "gpus": 0.5}
    report = {"gan": "SAGAN", "out of memory": "does not fit"}
    watch.on_trial_result(0, [], FakeTrial(config=config), report)
    assert (
        queue.order.waiting == [TrialRequest("SAGAN", 1.0, 1.0)] and watch.queue.order.failed == {}
    )
    watch.on_trial_result(0, [], FakeTrial(config=queue.order.waiting.pop().config), report)
    assert queue.order.waiting == [] and watch.queue.order.failed == {"SAGAN": "does not fit"}
    assert [e.kind for e in events] == ["warning", "failed"]


@pytest.fixture
def question(tmp_path: Path) -> Question:
    (tmp_path / "train.npz").write_bytes(b"images")
    (tmp_path / "preflight").mkdir()
    (tmp_path / "preflight" / "driver-t").write_text("t")
    return Question(tmp_path, "t", tmp_path / "train.npz")


def test_a_node_like_the_driver_has_no_problem(question: Question) -> None:
    said = preflight.examine_node(question, "n", wants_gpu=False)
    seen = (question.folder / "preflight" / "node-n-t").exists()
    data = preflight.sha256_file(question.data)
    assert node_problems("n", said, question, seen, data) == []


def test_every_problem_of_a_node_is_named(question: Question) -> None:
    good = preflight.examine_node(question, "n", wants_gpu=False)

    def problems(said: Answer | str, seen: bool = True) -> str:
        data = preflight.sha256_file(question.data)
        return "; ".join(node_problems("n1", said, question, seen, data))

    assert "does not share" in problems(replace(good, token=None))
    assert "does not share" in problems(good, seen=False)
    assert "cannot write" in problems(replace(good, write_error="Read-only file system"))
    assert "other training data" in problems(replace(good, data="0"))
    assert "cannot run ensgan (No module named 'ensgan')" in problems("No module named 'ensgan'")
    old = replace(good, versions={**good.versions, "torch": "2.1", "python": "3.10"})
    assert "has torch 2.1, the driver" in problems(old) and "python 3.10" in problems(old)


def test_clock_skew_is_told(question: Question) -> None:
    good = preflight.examine_node(question, "n", wants_gpu=False)
    assert preflight._clock_warning("n", good, good.clock - 1) is None
    late = preflight._clock_warning("n", replace(good, clock=good.clock - 90), good.clock)
    assert late is not None and "90 s off" in late


def test_loopback_is_told_from_the_rest() -> None:
    assert session.is_loopback("127.0.0.1") and session.is_loopback("[::1]")
    assert not session.is_loopback("192.0.2.7")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("ray://10.0.0.1:10001", "ray job submit --address http://127.0.0.1:8265 -- ensgan"),
        ("somewhere", "use local, auto, HOST:PORT or none"),
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


def test_a_cluster_that_is_refused_leaves_no_sweep(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(_: str) -> LocalExecutor:
        raise InputError("anybody may use it")

    monkeypatch.setattr(EXECUTORS, "_variants", dict(EXECUTORS._variants))
    EXECUTORS.register(ExecutorKind("open", refuse))
    with pytest.raises(InputError, match="anybody"):
        run_sweep(tiny(), storage=tmp_path, address="open")
    long = tmp_path / ("x" * 60)
    long.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    with pytest.raises(InputError, match="names would be too long"):
        run_sweep(tiny(), storage=tmp_path)
    assert not list(tmp_path.rglob("manifest.json")) and not (tmp_path / "mlflow.db").exists()


def test_an_executor_from_another_package_is_chosen_by_its_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Counting(LocalExecutor):
        pass

    made: list[str] = []
    monkeypatch.setattr(EXECUTORS, "_variants", dict(EXECUTORS._variants))
    EXECUTORS.register(ExecutorKind("counting", lambda text: made.append(text) or Counting()))
    with executor_at("counting:3", ClusterSpec(), tmp_path) as executor:
        assert isinstance(executor, Counting)
    with mapper_at("counting") as mapper:
        assert list(mapper(abs, [-1, 2])) == [1, 2]
    assert made == ["3", ""]
    with pytest.raises(InputError, match="--address counting uses none"):
        check_address("counting", Budget(gpu_hours=1.0))
