"""Steering: what is asked of a running sweep, by whom, and what becomes of it."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from member_job import job

from ensgan.errors import EnsganError, InputError, StoreError, SweepStoppedError
from ensgan.sweep import executor as executing
from ensgan.sweep.events import Event
from ensgan.sweep.executor import LocalExecutor
from ensgan.sweep.live import requests as asking
from ensgan.sweep.live.order import TrainingOrder
from ensgan.sweep.live.requests import Outcome, Request, RequestFolder, Requests
from ensgan.sweep.live.trial_report import own_stop_path
from ensgan.train import StopTraining

GANS = ("SNGAN", "SAGAN", "BigGAN")


@dataclass(frozen=True)
class Turn:
    gan: str


class Scene:
    """An order whose trials run when the test says so."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = {gan: folder / gan / "stop" for gan in GANS}
        self.events: list[Event] = []
        self.order = TrainingOrder(
            [Turn(gan) for gan in GANS], self.files, on_event=self.events.append
        )
        self.handed_out = 0

    def ask(self, verb: str, gan: str | None = None, value: float | None = None) -> Outcome:
        request = Request(number=1, verb=verb, gan=gan, value=value, by="me", time=0.0)  # type: ignore[arg-type]
        return self.order.apply(request)

    def start(self) -> str | None:
        """The GAN that begins next; its trial has its name."""
        turn = self.order.next()
        if turn is None:
            return None
        self.order.begin(turn.gan, turn)
        return turn.gan

    def end(self, gan: str, *, is_complete: bool = False) -> None:
        self.order.end(gan, is_complete=is_complete)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_a_gan_is_stopped_at_its_next_checkpoint_and_the_sweep_does_not_wait(scene: Scene) -> None:
    assert scene.start() == "SNGAN"
    outcome = scene.ask("stop", "SNGAN")
    assert "ends at a checkpoint" in outcome.will
    assert scene.files["SNGAN"].exists() and not outcome.has()
    scene.end("SNGAN")
    assert outcome.has() and not scene.files["SNGAN"].exists()
    assert [scene.start(), scene.start(), scene.start()] == ["SAGAN", "BigGAN", None]
    for gan in ("SAGAN", "BigGAN"):
        scene.end(gan, is_complete=True)
    assert not scene.order.waits
    assert scene.order.held == {"SNGAN": "stopped"}


def test_for_a_paused_gan_the_sweep_waits(scene: Scene) -> None:
    outcome = scene.ask("pause", "SAGAN")
    assert outcome.has() and "was not running" in outcome.will
    assert [scene.start(), scene.start(), scene.start()] == ["SNGAN", "BigGAN", None]
    scene.end("SNGAN", is_complete=True)
    scene.end("BigGAN", is_complete=True)
    assert scene.order.waits
    outcome = scene.ask("resume", "SAGAN")
    assert "next free slot" in outcome.will and not outcome.has()
    assert scene.start() == "SAGAN" and outcome.has()
    scene.end("SAGAN", is_complete=True)
    assert not scene.order.waits


def test_what_is_resumed_while_its_trial_ends_comes_back(scene: Scene) -> None:
    scene.start()
    scene.ask("pause", "SNGAN")
    outcome = scene.ask("resume", "SNGAN")
    assert "after its trial has ended" in outcome.will
    assert scene.start() == "SAGAN" and not outcome.has()
    scene.end("SNGAN")
    assert scene.start() == "SNGAN" and outcome.has() and not scene.files["SNGAN"].exists()


def test_a_whole_sweep_is_paused_and_goes_on_where_it_was(scene: Scene) -> None:
    scene.start()
    scene.start()
    outcome = scene.ask("pause")
    assert outcome.will.endswith("SAGAN, SNGAN") and not outcome.has()
    scene.end("SNGAN")
    scene.end("SAGAN", is_complete=True)  # it had just made its last snapshot
    assert outcome.has() and scene.order.waits and scene.start() is None
    with pytest.raises(InputError, match="paused already"):
        scene.ask("pause")
    scene.ask("resume")
    assert [scene.start(), scene.start(), scene.start()] == ["SNGAN", "BigGAN", None]
    with pytest.raises(InputError, match="nothing is paused"):
        scene.ask("resume")


def test_a_stopped_sweep_hands_nothing_out(scene: Scene) -> None:
    scene.start()
    outcome = scene.ask("stop")
    assert "SNGAN" in outcome.will and scene.files["SNGAN"].exists()
    scene.end("SNGAN")
    assert outcome.has() and scene.start() is None and not scene.order.waits
    assert scene.order.ended is not None


def test_a_failure_is_tried_again(scene: Scene) -> None:
    with pytest.raises(InputError, match="nothing to retry: SNGAN has not failed, it is waiting"):
        scene.ask("retry", "SNGAN")
    scene.start()
    scene.order.fail("SNGAN", "a loss is nan")
    scene.end("SNGAN")
    for verb in ("stop", "pause", "priority"):
        with pytest.raises(InputError, match=r"has failed \(a loss is nan\): `ensgan retry`"):
            scene.ask(verb, "SNGAN", 1.0)
    scene.ask("retry", "SNGAN")
    assert not scene.order.failed and scene.start() == "SNGAN"
    assert [event.kind for event in scene.events if event.kind != "held"] == ["failed", "retried"]
    scene.end("SNGAN", is_complete=True)
    with pytest.raises(InputError, match="it is finished"):
        scene.ask("retry", "SNGAN")
    with pytest.raises(InputError, match="SNGAN is finished"):
        scene.ask("stop", "SNGAN")


def test_priorities_change_what_waits(scene: Scene) -> None:
    scene.start()
    outcome = scene.ask("priority", "BigGAN", 2)
    assert "next are BigGAN, SAGAN" in outcome.will
    assert "is running" in scene.ask("priority", "SNGAN", 2).will
    assert [scene.start(), scene.start()] == ["BigGAN", "SAGAN"]


def test_a_raised_budget_brings_back_what_it_had_ended(scene: Scene) -> None:
    with pytest.raises(InputError, match="runs without a budget"):
        scene.ask("budget", None, 3.0)
    raised: list[float] = []
    scene.order.raise_budget = raised.append
    scene.start()
    scene.order.end("SNGAN", is_complete=False, is_spent=True)
    assert scene.order.held == {"SNGAN": "out of budget"} and not scene.order.waits
    scene.ask("budget", None, 3.0)
    assert raised == [3.0] and scene.start() == "SNGAN"


def test_unknown_gans_and_wrong_scopes(scene: Scene) -> None:
    with pytest.raises(InputError, match="did you mean 'BigGAN'"):
        scene.ask("stop", "BigGAM")
    with pytest.raises(InputError, match="budget is for the whole sweep"):
        scene.ask("budget", "SNGAN", 1.0)
    with pytest.raises(InputError, match="retry is for a single GAN"):
        scene.ask("retry")


class Desk:
    """A driver that looks at its requests whenever the test says so."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(asking, "POLL_SECONDS", 0.0)
        self.folder = RequestFolder(folder)
        self.taken: list[object] = []
        self.requests = Requests(self.folder)
        self.happened = False

    def look(self) -> None:
        self.taken += [event.fields["state"] for event in self.requests.look(self.handle)]

    def handle(self, request: Request) -> Outcome:
        if request.verb == "retry":
            raise InputError("nothing to retry")
        if request.verb == "add":
            raise TypeError("a fault\nof ours")
        if request.verb == "budget":
            raise StoreError("the folder was moved")
        return Outcome("it will", lambda: self.happened, "it has")

    def state(self, request: Request) -> str | None:
        answer = self.folder.answer_to(request)
        return None if answer is None else f"{answer.state}: {answer.message}"


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def test_a_request_is_answered_twice(desk: Desk) -> None:
    with pytest.raises(InputError, match="nobody takes requests"):
        desk.folder.post("stop")
    with desk.requests.taken():
        first, second = desk.folder.post("pause", "SNGAN"), desk.folder.post("retry", "SNGAN")
        assert desk.state(first) is None
        desk.look()
        assert desk.state(first) == "taken: it will"
        assert desk.state(second) == "refused: nothing to retry"
        desk.happened = True
        desk.look()
        assert desk.state(first) == "done: it has"
        assert desk.taken == ["taken", "refused"]
        never, late = desk.folder.post("stop"), None
        (desk.folder.path / "9.json").write_text("{")
        desk.happened = False
        desk.look()
        late, idle = desk.folder.post("stop"), desk.folder.post("pause")
    assert desk.state(never) == "refused: the sweep ended before this had happened: it will"
    assert desk.state(late) == "done: the sweep ended before it looked at this"
    assert desk.state(idle) == "refused: the sweep ended before it looked at this"
    assert "9.json" in (desk.folder.path / "9.answer").read_text()
    with pytest.raises(InputError, match="has just ended"):
        desk.folder.post("stop")
    with desk.requests.taken():
        assert not list(desk.folder.path.glob("*.json")), "earlier requests are forgotten"


def test_nothing_that_is_asked_ends_the_sweep(desk: Desk) -> None:
    with desk.requests.taken():
        fault = desk.folder.post("add", "SNGAN")
        long = desk.folder.path / "8.json"
        long.write_text(json.dumps({**fault.tree(), "gan": "x" * asking.LARGEST_REQUEST}))
        (desk.folder.path / "9.json").mkdir()
        desk.look()
        assert desk.state(fault) == "refused: it cannot be done: TypeError: of ours"
        assert "more than the 65536 bytes" in (desk.folder.path / "8.answer").read_text()
        assert "9.json is no plain file" in (desk.folder.path / "9.answer").read_text()
        desk.folder.post("budget")
        with pytest.raises(StoreError, match="was moved"):
            desk.look()


def test_two_steerers_come_one_after_the_other(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with desk.requests.taken():
        posted: list[Request] = []
        threads = [
            threading.Thread(target=lambda: posted.append(desk.folder.post("pause")))
            for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(request.number for request in posted) == [1, 2, 3, 4, 5]
        monkeypatch.setattr(asking, "LOCK_SECONDS", 0.2)
        held = os.open(desk.folder.path / "lock", os.O_RDWR)
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another command has been steering"):
            desk.folder.post("stop")
        os.close(held)


class Local:
    """A local executor whose trainings are made up."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(asking, "POLL_SECONDS", 0.0)
        self.jobs = [replace(job(gan, folder), folder=folder / gan) for gan in GANS]
        self.folder = RequestFolder(folder)
        self.log: list[str] = []
        self.during: dict[str, Callable[[], object]] = {}
        monkeypatch.setattr(executing, "grow_here", self.grow_here)

    def grow_here(self, one: object, on_event: object, look: Callable[[], None]) -> list[object]:
        gan = one.name  # type: ignore[attr-defined]
        self.log.append(gan)
        self.during.pop(gan, lambda: None)()
        look()
        if own_stop_path(one).exists():  # type: ignore[arg-type]
            raise StopTraining
        return []

    def train(self) -> dict[str, str]:
        requests = Requests(self.folder)
        with requests.taken():
            executor = LocalExecutor()
            return dict(
                executor.grow(
                    self.jobs,
                    on_member=lambda member: None,
                    on_event=lambda event: None,
                    requests=requests,
                )
            )


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Local:
    return Local(tmp_path, monkeypatch)


def test_without_ray_a_paused_gan_comes_back(local: Local) -> None:
    local.during["SNGAN"] = lambda: local.folder.post("pause", "SNGAN")
    local.during["BigGAN"] = lambda: local.folder.post("resume", "SNGAN")
    assert local.train() == {}
    assert local.log == ["SNGAN", "SAGAN", "BigGAN", "SNGAN"]


def test_without_ray_a_failure_is_tried_again_while_others_run(local: Local) -> None:
    def fail() -> None:
        raise EnsganError("a loss is nan")

    local.during["SNGAN"] = fail
    local.during["SAGAN"] = lambda: local.folder.post("retry", "SNGAN")
    assert local.train() == {}
    assert local.log == ["SNGAN", "SAGAN", "SNGAN", "BigGAN"]


def test_without_ray_a_stopped_sweep_ends(local: Local) -> None:
    local.during["SAGAN"] = lambda: local.folder.post("stop")
    with pytest.raises(SweepStoppedError):
        local.train()
    assert local.log == ["SNGAN", "SAGAN"]
