"""What `ensgan add` brings into a sweep: its spec, its training, its manifest, its next run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from local_sweep import Home
from tiny_sweep import tiny, write_sweep

from ensgan.config import parse_spec
from ensgan.errors import InputError, SweepStoppedError
from ensgan.launch.finished import known_result
from ensgan.sweep.events import Event
from ensgan.sweep.folder import sweep_folder
from ensgan.sweep.live import requests as asking
from ensgan.sweep.live.requests import Request, RequestFolder
from ensgan.sweep.planning.sweep_file import (
    AlreadyThereError,
    carried_on,
    known_names,
    lacks,
    with_addition,
)
from ensgan.sweep.planning.variations import configurations
from ensgan.sweep.records import Addition


def names(vary: Any, addition: Addition, **train: Any) -> list[str]:
    """Configurations of the tiny sweep with an addition."""
    spec = with_addition(parse_spec(tiny(train={**train, "vary": vary})), addition, known_names())
    found, problems = configurations(spec)
    assert not problems
    return [each.name for each in found if each.name.startswith("SNGAN")]


LR = Addition(vary={"learning_rate": 0.3})


def test_a_variation_joins_each_form_of_vary() -> None:
    assert names(None, LR) == ["SNGAN", "SNGAN~lr0.3"]
    assert names({"seed": [0, 1]}, LR) == ["SNGAN", "SNGAN~lr0.3", "SNGAN~s1", "SNGAN~lr0.3-s1"]
    assert names({"learning_rate": [0.5]}, LR) == ["SNGAN~lr0.5", "SNGAN~lr0.3"]
    assert names([{"name": "fast", "learning_rate": 2.0}], LR) == ["SNGAN~fast", "SNGAN~lr0.3"]
    draws = {"sample": 2, "from": {"learning_rate": {"log": [0.1, 4.0]}}}
    more = names(draws, Addition(vary={"sample": 3}))
    assert len(more) == 3 and more[:2] == [
        each.name
        for each in configurations(parse_spec(tiny(train={"vary": draws})))[0]
        if each.name.startswith("SNGAN")
    ]


@pytest.mark.parametrize(
    ("vary", "addition", "expected"),
    [
        (None, Addition(gan="SNGN"), "did you mean 'SNGAN'"),
        (None, Addition(vary={"seed": 0}), "the sweep varies seed=0 already"),
        ({"seed": [0, 1]}, Addition(vary={"seed": 1}), "the sweep varies seed=1 already"),
        ([{"learning_rate": 0.3}], LR, "varies learning_rate=0.3 already"),
        (None, Addition(gan="SNGAN"), "SNGAN is in the sweep already"),
        ({"seed": [0]}, Addition(vary={"learning_rte": 0.3}), "did you mean 'learning_rate'"),
        ({"seed": [0]}, Addition(vary={"batch": 4.5}), "--vary batch: "),
        ({"seed": [0]}, Addition(vary={"steps": (1.0, 2.0)}), "--vary steps: "),
        ({"seed": [0]}, Addition(vary={f"k{n}": 1 for n in range(999)}), "setting to vary 'k0'"),
        ({"seed": [0]}, Addition(vary={"width": 0.5}), "do not have one value of it"),
        ({"sample": 2, "from": {"seed": [0, 1]}}, LR, "draws its variations"),
        ({"sample": 2, "from": {"seed": [0, 1]}}, Addition(vary={"sample": 2}), "draws 2"),
    ],
)
def test_refusals(vary: Any, addition: Addition, expected: str) -> None:
    with pytest.raises(InputError) as error:
        train = {"vary": vary, "overrides": {"SNGAN": {"width": 0.0625}}}
        with_addition(parse_spec(tiny(train=train)), addition, known_names())
    assert expected in str(error.value)
    known = "already" in expected or expected == "draws 2"
    assert isinstance(error.value, AlreadyThereError) == known


class Asking:
    """Asks for something at the first event of a kind, and keeps what was asked."""

    def __init__(self, home: Home, kind: str, *asks: tuple[str, dict[str, Any]]) -> None:
        self.folder = RequestFolder(sweep_folder(home.path, "tiny").path)
        self.kind, self.asks = kind, list(asks)
        self.posted: list[Request] = []
        self.warnings: list[str] = []

    def __call__(self, event: Event) -> None:
        if event.kind == "warning":
            self.warnings.append(event.fields["message"])
        if event.kind == self.kind or event.fields.get("stage") == self.kind:
            while self.asks:
                verb, values = self.asks.pop(0)
                self.posted.append(self.folder.post(verb, **values))  # type: ignore[arg-type]

    def answers(self) -> list[str]:
        found = [self.folder.answer_to(request) for request in self.posted]
        return [f"{each.state}: {each.message}" for each in found if each is not None]


def test_added_while_it_trains_kept_by_the_same_file_and_left_out_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "POLL_SECONDS", 0.0)
    home, quick = Home(tmp_path), {"evaluate": {"strategies": []}, "select": {"rule": "knee"}}
    spec = parse_spec(tiny(train={"gans": ["SNGAN"]}, **quick))
    adding = Asking(
        home,
        "plan",
        ("add", {"gan": "SAGAN"}),
        ("add", {"gan": "sagan"}),
        ("add", {"gan": "SAGAN"}),
        ("add", {"vary": {"seed": 1}}),
        ("priority", {"gan": "SAGAN~s1", "value": 3.0}),
    )
    stopping = Asking(home, "member", ("stop", {}))
    both = lambda event: (adding(event), stopping(event))  # noqa: E731
    with pytest.raises(SweepStoppedError):
        home.run(spec, on_event=both)
    assert [line.partition(":")[0] for line in adding.answers()] == [
        "done", "refused", "refused", "done", "done"
    ]  # fmt: skip
    assert "did you mean 'SAGAN'" in adding.answers()[1]
    assert "already" in adding.answers()[2]

    gans = ["SNGAN", "SAGAN"]
    everything = [name for gan in gans for name in (gan, f"{gan}~s1")]
    folder = sweep_folder(home.path, "tiny")
    before = folder.read()
    assert list(before.gans) == everything and before.planned == 8
    assert before.settings.train.gans == gans and len(before.additions) == 2
    assert before.earlier is not None and "SAGAN@3" in before.planned_names

    late = Asking(home, "score", ("add", {"gan": "BigGAN"}))
    result = home.run(spec, on_event=late)
    (answer,) = late.answers()
    assert answer.startswith("refused: training is over (score): write it into the sweep's file")
    (said,) = late.warnings
    assert "was given SAGAN and seed=1 while it ran" in said and "--without-added" in said
    assert [member.name for member in result.members] == list(before.planned_names)
    file = write_sweep(home.path, train={"gans": ["SNGAN"]}, **quick)
    home.run(file)
    known = known_result(file, [], home.path, None)
    assert known is not None and known["said"] == [said], "answered at once, and says it again"

    # The file itself has it now, or leaves it out.
    own = parse_spec(tiny(train={"gans": gans, "vary": [{"seed": 0}, {"seed": 1}]}, **quick))
    assert carried_on(own, folder) == (own, [])
    assert not any(lacks(own, each) for each in before.additions)
    draws = {"sample": 2, "from": {"seed": [0, 1]}}
    with pytest.raises(InputError, match=r"was given seed=1 .* --without-added"):
        carried_on(parse_spec(tiny(train={"gans": gans, "vary": draws}, **quick)), folder)
    smaller = home.run(spec, without_added=True)
    assert [member.name for member in smaller.members] == ["SNGAN@3", "SNGAN@6"]
    assert not folder.read().additions and carried_on(spec, folder)[1] == []
