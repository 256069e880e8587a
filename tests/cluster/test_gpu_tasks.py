"""Tasks on a pretended cluster with two GPUs: who sees which, and never too many on one."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray

from ensgan.cluster.executor import RayExecutor
from ensgan.cluster.session import environment, ray_session
from ensgan.cluster.tasks import Tasks, check_fits, reserved, task_slots
from ensgan.config import ClusterSpec, parse_spec
from ensgan.errors import InputError
from ensgan.sweep.events import Event
from ensgan.sweep.executor import SHARE, Needs
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.inputs import write_inputs
from ensgan.sweep.resolving import resolve

GPU_NODE, CPU_NODE = {"CPU": 2.0, "GPU": 1.0, "memory": 4e9}, {"CPU": 8.0, "memory": 8e9}


SMALL = {"options": {"n_train": 24, "n_val": 12, "n_test": 12}}


@dataclass(frozen=True)
class Job:
    """Says where it ran and when; ``gpus``: not before so many have been taken by such jobs."""

    number: int
    folder: Path
    seconds: float = 0.2
    gpus: int = 0

    @property
    def label(self) -> str:
        return f"job {self.number}"


@dataclass(frozen=True)
class Ran:
    number: int
    gpu: str
    pid: int
    begin: float
    end: float


def look(job: Job) -> Ran:
    begin = time.time()
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
    if job.gpus:
        (job.folder / f"gpu-{seen}").touch()
        while len(list(job.folder.glob("gpu-*"))) < job.gpus:
            time.sleep(0.01)
    time.sleep(job.seconds)
    assert [str(index) for index in ray.get_gpu_ids()] == [part for part in [seen] if part]
    return Ran(job.number, seen, os.getpid(), begin, time.time())


def most_at_once(ran: list[Ran], gpu: str) -> int:
    own = [one for one in ran if one.gpu == gpu]
    return max(sum(a.begin <= b.begin < a.end for a in own) for b in own)


class Holder:
    """Somebody else's trial."""

    def ready(self) -> None:
        pass


def dies_once(job: Job) -> int:
    mark = job.folder / f"tried-{job.number}"
    if job.number == 1 and not mark.exists():
        mark.touch()
        os._exit(1)
    return job.number


def fails(job: Job) -> int:
    if job.number == 1:
        raise InputError("number 1 is wrong")
    return job.number


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    here = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    # Workers import the functions of this file.
    with environment({"PYTHONPATH": here}), ray_session("local", cpus=2, gpus=2):
        yield


@pytest.fixture
def executor(cluster: None, tmp_path: Path) -> RayExecutor:
    return RayExecutor(ClusterSpec(gpus_per_trial=0.5), tmp_path)


@pytest.mark.timeout(300)
def test_whole_gpus_are_streams_that_keep_their_process(
    executor: RayExecutor, tmp_path: Path
) -> None:
    jobs = [Job(i, tmp_path, 0.0, gpus=2) for i in range(6)]
    ran = list(executor.mapper(Needs(gpus=1.0))(look, jobs))
    assert sorted(one.number for one in ran) == list(range(6))
    assert {one.gpu for one in ran} == {"0", "1"}
    assert len({one.pid for one in ran}) == 2, "a process was started per task"
    assert most_at_once(ran, "0") == most_at_once(ran, "1") == 1


@pytest.mark.timeout(300)
def test_parts_of_gpus_as_the_sweep_file_says(executor: RayExecutor, tmp_path: Path) -> None:
    """Half a GPU each: two on each, results in the order of the jobs."""
    jobs, done = [Job(i, tmp_path, 0.1, gpus=2) for i in range(12)], []
    ran = executor.map(look, jobs, on_done=done.append, needs=Needs(0.5, None))
    assert [one.number for one in ran] == list(range(12)) and len(done) == 12
    assert Counter(one.gpu for one in ran).keys() == {"0", "1"}
    assert len({one.pid for one in ran}) <= 4
    assert max(most_at_once(ran, "0"), most_at_once(ran, "1")) <= 2


@pytest.mark.timeout(300)
def test_an_extractor_is_trained_on_a_gpu_of_the_cluster(
    executor: RayExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, in a task with its share of a GPU; the driver finds it trained."""
    from tiny_sweep import tiny  # workers import this file, and find no such module

    monkeypatch.setattr("ensgan.embedding.table.train_medical", None)
    spec = parse_spec(tiny(embed={"extractor": "medical"}, dataset=SMALL))
    asked: list[Needs] = []
    plain = executor.map
    monkeypatch.setattr(executor, "map", lambda *a, **b: asked.append(b["needs"]) or plain(*a, **b))
    inputs = [
        write_inputs(resolve(spec), SweepFolder(tmp_path / "sweep"), lambda: executor)
        for _ in range(2)
    ]
    assert asked == [Needs.on("auto")] and executor.on_gpus(asked[0]) == 2
    assert inputs[0].scoring == inputs[1].scoring and inputs[0].scoring.reference.exists()
    assert executor.on_gpus(Needs()) == 0


@pytest.mark.timeout(300)
def test_work_for_cpus_sees_no_gpu(executor: RayExecutor, tmp_path: Path) -> None:
    jobs = [Job(i, tmp_path) for i in range(2)]
    assert {one.gpu for one in executor.map(look, jobs, on_done=lambda _: None)} == {""}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_lost_process_is_replaced_and_an_error_is_the_tasks_own(
    executor: RayExecutor, tmp_path: Path
) -> None:
    jobs, whole = [Job(i, tmp_path) for i in range(3)], Needs(gpus=1.0)
    assert executor.map(dies_once, jobs, on_done=lambda _: None, needs=whole) == [0, 1, 2]
    done: list[int] = []
    with pytest.raises(InputError, match=r"^number 1 is wrong$"):
        executor.map(fails, jobs, on_done=done.append, needs=whole)
    assert sorted(done) == [0, 2], "the others' results are kept"


@pytest.mark.timeout(300)
def test_what_is_handed_out_is_bounded_and_what_is_not_read_is_ended(
    executor: RayExecutor, tmp_path: Path
) -> None:
    taken: list[int] = []

    def jobs() -> Iterator[Job]:
        for number in range(100):
            taken.append(number)
            yield Job(number, tmp_path, 0.0)

    results = iter(executor.mapper()(look, jobs()))
    next(results)
    assert len(taken) <= 1 + 2 * (1 + 2)
    results.close()  # type: ignore[attr-defined]
    # The GPUs are free again: all of them can be had at once.
    assert len(list(executor.mapper(Needs(gpus=2.0))(fails, [Job(0, tmp_path)]))) == 1


@pytest.mark.timeout(300)
def test_work_whose_gpus_are_busy_waits_and_says_so(
    executor: RayExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ensgan.cluster.tasks.PATIENCE", 0.5)
    others = ray.remote(Holder).options(num_cpus=0, num_gpus=2).remote()
    ray.get(others.ready.remote())
    told: list[str] = []

    def tell(event: Event) -> None:
        told.append(event.fields["for"])
        if event.fields["for"]:
            ray.kill(others)

    executor.tell = tell
    ran = list(executor.mapper(Needs(gpus=1.0))(look, [Job(i, tmp_path) for i in range(2)]))
    assert told == ["GPUs that other work holds", ""] and len(ran) == 2


def test_more_than_any_node_has_is_refused(cluster: None, executor: RayExecutor) -> None:
    expected = r"a task asks for 4 GPU, the cluster's largest node has 2: lower --gpus-per-task"
    with pytest.raises(InputError, match=expected):
        Tasks.asked(cpus=1.0, gpus=4.0)
    with pytest.raises(InputError, match=r"asks for 9 CPU.* change cluster\.cpus_per_trial"):
        executor.mapper(Needs(cpus=9.0))
    assert executor.at_once(Needs(gpus=1.0)) == 2 and executor.at_once(Needs(0.25, 0.5)) == 4


def test_mixed_clusters_and_those_without_gpus() -> None:
    """GPU tasks go to the nodes with GPUs; without any they are what they were."""
    needs = Needs(gpus=0.5, memory=1 << 40)
    assert reserved(needs, [CPU_NODE]) == Needs(1.0, 0.0, int(8e9))
    mixed = reserved(needs, [GPU_NODE, CPU_NODE])
    assert mixed.gpus == 0.5 and task_slots(mixed, [GPU_NODE, CPU_NODE]) == 2
    assert task_slots(Needs(), [GPU_NODE, CPU_NODE]) == 10
    with pytest.raises(InputError, match="4 CPU and 1 GPU, and no node of the cluster has both"):
        check_fits("a task", Needs(4.0, 1.0), [GPU_NODE, CPU_NODE], "change cluster.{}s_per_trial")


def test_the_share_of_a_gpu_follows_the_sweep_file() -> None:
    asked = [Needs(gpus=None).shared(ClusterSpec(gpus_per_trial=g)).gpus for g in (0.5, 1, 2)]
    assert asked == [0.5, 1, SHARE]
    for cluster in (ClusterSpec(), ClusterSpec(gpus_per_trial="auto")):
        assert Needs(gpus=None).shared(cluster).gpus == SHARE
        assert Needs().shared(cluster) == Needs()
    for bad in ({"cpus": 0.0}, {"gpus": 1.5}, {"gpus": -1.0}, {"cpus": float("nan")}):
        with pytest.raises(InputError, match="per task is"):
            Needs(**bad)
