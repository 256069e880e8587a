"""Trials that share a GPU are trained in one process; here on two cards that are pretended."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import ray
from member_job import job
from tiny_sweep import tiny

import ensgan.registry as plugin_files
from ensgan.cluster import trainable
from ensgan.cluster.budget import Budget
from ensgan.cluster.executor import RayExecutor
from ensgan.cluster.packs import PackProcess, most_on_a_card
from ensgan.cluster.preflight import warn_of_memory
from ensgan.cluster.session import ray_session
from ensgan.cluster.trainable import REHEARSAL, VISIBLE
from ensgan.config import ClusterSpec, parse_spec
from ensgan.files import read_json, write_json
from ensgan.sweep.events import Event
from ensgan.sweep.executor import LocalExecutor
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.inputs import write_inputs
from ensgan.sweep.live.requests import Request
from ensgan.sweep.live.trial_report import TrialReport, heartbeat_path
from ensgan.sweep.member_job import MemberJob, MemberResult
from ensgan.sweep.planning.cost import gpu_share
from ensgan.sweep.planning.sweep_file import load_plugin
from ensgan.sweep.resolving import resolve
from ensgan.sweep.training_stage import member_jobs
from ensgan.zoo import table

GIB = 2**30
FAILS = "FailsInThisTest"
PLUGIN = """
import dataclasses
from ensgan import zoo

adam = zoo.Adam(learning_rate=1e38)
row = dataclasses.replace(zoo.get("SNGAN"), name="FailsInThisTest")
zoo.register(dataclasses.replace(row, optimiser=zoo.Optimiser(adam, adam)))
"""


@pytest.fixture
def rehearsal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table.gans, "_variants", dict(table.gans._variants))
    monkeypatch.setattr(plugin_files, "_plugins", {})
    monkeypatch.setenv(REHEARSAL, "1")


def jobs_in(folder: Path, steps: int) -> tuple[ClusterSpec, list[MemberJob]]:
    plugin = folder.parent / "plugin.py"
    plugin.write_text(PLUGIN)
    load_plugin(plugin)
    gans = ["SNGAN", "ACGAN-Mod", FAILS, "SAGAN"]
    train = {"gans": gans, "plugins": [str(plugin)], "steps": steps}
    spec = parse_spec(tiny(train=train, cluster={"gpus_per_trial": 0.5}))
    resolved, sweep = resolve(spec), SweepFolder(folder)
    return spec.cluster, member_jobs(resolved, write_inputs(resolved, sweep))


def key(member: MemberResult) -> str:
    """What is equal to the bit where the training and its score are."""
    return f"{member.name} {member.sha256} {member.intra_d!r}"


def alone(folder: Path, steps: int) -> tuple[list[str], dict[str, str]]:
    """Members and failures of the jobs one after another, without packs."""
    members: list[str] = []
    failed = LocalExecutor().grow(
        jobs_in(folder, steps)[1],
        on_member=lambda member: members.append(key(member)),
        on_event=lambda event: None,
    )
    return sorted(members), dict(failed)


def test_a_process_of_a_pack_reports_what_trials_report_alone(
    tmp_path: Path, rehearsal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VISIBLE, "")  # it sets it itself
    node = SimpleNamespace(get_node_id=lambda: "this one")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: node)
    monkeypatch.setattr(trainable, "_Exporter", Mock())
    jobs = jobs_in(tmp_path / "pack", 6)[1]
    process, reports = PackProcess("0"), list[Any]()

    def ask(gan: str) -> None:
        while (report := process.next(gan)) is not None:
            reports.append(report)

    for each in jobs:
        process.begin(each, 0.25)
    threads = [threading.Thread(target=ask, args=(each.name,)) for each in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    members = [MemberResult.from_json(each["member"]) for each in reports if "member" in each]
    errors = {each["gan"]: each["error"] for each in reports if "error" in each}
    assert (sorted(map(key, members)), errors) == alone(tmp_path / "alone", 6)
    assert len(members) == 6 and "is nan" in errors[FAILS]
    # Both GANs that began first were under way before either had ended.
    assert [each["gan"] for each in reports].index("SAGAN") < len(reports) - 2


class StopsOnceItTrains:
    """Somebody who asks for the end of a GAN when its first heartbeat is there."""

    take_in = None

    def __init__(self, job: MemberJob) -> None:
        self.job, self.is_done = job, False

    def look(self, handler: Callable[[Request], object]) -> list[Event]:
        if not self.is_done and heartbeat_path(self.job).exists():
            self.is_done = True
            handler(Request(number=1, verb="stop", gan=self.job.name, by="a test", time=0))
        return []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_packs_with_a_failing_gan_in_one(tmp_path: Path, rehearsal: None) -> None:
    """One GAN is stopped, its rest is more than the budget, and then it is trained to its end."""
    cluster, jobs = jobs_in(tmp_path / "packs", 60)
    members, events = list[str](), list[Event]()
    stopped = jobs[-1]

    def grow(gpu_hours: float, requests: Any = None) -> Mapping[str, str]:
        members.clear()
        events.clear()
        return RayExecutor(cluster, tmp_path / "packs" / "tune", Budget(gpu_hours)).grow(
            jobs,
            on_member=lambda member: members.append(key(member)),
            on_event=events.append,
            requests=requests,
        )

    def fields(kind: str) -> list[Any]:
        return [event.fields for event in events if event.kind == kind]

    with ray_session(cpus=4, gpus=2):
        grow(10, StopsOnceItTrains(stopped))
        (held,) = fields("stopped")
        assert (held["gan"], held["reason"]) == (stopped.name, "by `ensgan stop`")
        assert len(members) < 6 and not fields("lost")
        beats = [read_json(heartbeat_path(each)) for each in jobs if each.name != FAILS]
        processes = Counter(beat["pid"] for beat in beats)
        assert sorted(processes.values()) == [1, 2], "two on one card, one beside the failing"
        assert {beat["gpus"] for beat in beats} == {0.5}
        grow(fields("budget")[0]["hours"] + 1e-5)
        assert [left["gan"] for left in fields("stopped")] == [stopped.name] and len(members) < 6
        failed = grow(10)
    assert (sorted(members), failed) == alone(tmp_path / "alone", 60)
    assert len(members) == 6 and "is nan" in failed[FAILS] and not fields("stopped")


def test_a_pack_larger_than_the_card_is_said() -> None:
    jobs = [replace(job(name), memory_bytes=5 * GIB) for name in ("SNGAN", "SAGAN", "BigGAN")]
    said: list[Event] = []
    warn_of_memory(jobs, ClusterSpec(gpus_per_trial=0.5), 12 * GIB, said.append)
    assert said == []
    warn_of_memory(jobs, ClusterSpec(gpus_per_trial=0.5), 8 * GIB, said.append)
    (message,) = [event.fields["message"] for event in said]
    assert "0.5 puts 2 GANs onto a GPU" in message and "set it to auto" in message
    assert "10.0 GB" in message and "8.0 GB" in message


def test_no_more_share_a_card_than_it_is_worth(tmp_path: Path) -> None:
    jobs: list[Any] = [job(name, tmp_path) for name in ("SNGAN", "SAGAN")]
    auto = ClusterSpec(gpus_per_trial="auto")
    assert gpu_share(auto, 2 * GIB, 80 * GIB) == 0.05
    assert gpu_share(auto, 2 * GIB, 80 * GIB, 3) == pytest.approx(0.3333)
    assert gpu_share(auto, 60 * GIB, 80 * GIB, 3) == 0.75
    numbered = ClusterSpec(gpus_per_trial="auto", gans_per_process=4)
    assert most_on_a_card(jobs, numbered, 80 * GIB, lambda event: None) == 4
    fixed = ClusterSpec(gpus_per_trial=0.25)
    assert most_on_a_card(jobs, fixed, 80 * GIB, lambda event: None) is None
    assert most_on_a_card(jobs, auto, None, lambda event: None) is None
    write_json(tmp_path / "pack.json", {"gans": 8})  # measured before
    assert most_on_a_card(jobs, auto, 80 * GIB, lambda event: None) == 8


def test_what_training_warns_of_a_gan_is_in_its_log(tmp_path: Path) -> None:
    """In a pack all of them share a process, and whoever prints is unknown."""
    with TrialReport(job("SNGAN", tmp_path)).logged():
        for gan in ("SNGAN", "SNGAN-Other"):
            logging.getLogger("ensgan.train").warning("%s trains without a captured step", gan)
    logging.getLogger("ensgan.train").warning("SNGAN is over")
    log = SweepFolder(tmp_path).log("SNGAN").read_text()
    assert log.count("SNGAN trains without a captured step") == 1
    assert "Other" not in log and "is over" not in log
