"""What the fuzzer finds, that it finds it, and what it found before."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import fuzz
import fuzz_paths
import pytest
from fuzz_readers import READERS, Reader

from ensgan.cli.app import COMMANDS, load_command
from ensgan.errors import DataError, EnsganError

CRASHES = Path(__file__).parent / "crashes"

IN_THIS_PROCESS = [
    name for name in READERS if name not in ("MLflow answers", "command lines", "paths")
]
"""Readers that need neither MLflow nor Ray, which take seconds to import."""


@pytest.mark.slow
def test_some_hundred_damaged_inputs_are_accepted_or_refused(tmp_path: Path) -> None:
    found = fuzz.fuzz(300, 26, IN_THIS_PROCESS, tmp_path)
    assert {name: counts.faults for name, counts in found.items() if counts.faults} == {}
    assert all(counts.outcomes["refused"] for counts in found.values())
    assert sum(counts.outcomes["accepted"] for counts in found.values()) > 10


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_ten_thousand_damaged_inputs_are_accepted_or_refused(tmp_path: Path) -> None:
    found = fuzz.fuzz(10_000, 1, list(READERS), tmp_path)
    assert {name: counts.faults for name, counts in found.items() if counts.faults} == {}
    assert sum(counts.outcomes.total() for counts in found.values()) >= 10_000


@pytest.mark.parametrize("path", sorted(CRASHES.rglob("*.*")), ids=lambda path: path.stem)
def test_inputs_that_were_faults_are_refused(path: Path) -> None:
    with pytest.raises(EnsganError):
        READERS[path.parent.name].read(path)


def test_every_path_option_is_given_odd_paths() -> None:
    lines = [json.loads(seed)[:2] for seed in fuzz_paths.seeds()]
    replaced = {(words[0], words[at - 1]) for words, at in lines}
    for name in COMMANDS:
        command = load_command(name)
        for each in getattr(command, "commands", {name: command}).values():
            for option in each.params:
                if "Path" in str(option.type_descriptor.annotation) and option.opts[0][0] == "-":
                    assert {(name, opt) for opt in option.opts} & replaced, option.opts


def hang(_: Path) -> None:
    try:
        while True:
            time.sleep(0.01)
    except Exception:
        raise DataError("nobody waits for that") from None


def refuse(_: Path) -> None:
    raise DataError("not so")


def say_nothing(_: Path) -> None:
    raise DataError("")


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (lambda path: {}["x"], "KeyError: "),
        (lambda path: sys.exit(3), "SystemExit: "),
        (lambda path: os._exit(7), "the process ended with 7"),
        (lambda path: os.abort(), "the process ended with -6"),
        (say_nothing, "no sentence"),
        (hang, "longer than"),
        (lambda path: len(bytes(1 << 26).replace(b"\0", b"x")), "uses more than"),
        (refuse, None),
        (Path.read_bytes, None),
    ],
    ids=["error", "exit", "end", "crash", "silence", "hang", "memory", "refused", "accepted"],
)
def test_faults_are_counted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[[Path], object],
    kind: str | None,
) -> None:
    bad = Reader("bad", "csv", lambda rng, data, others: data, read, 1)
    monkeypatch.setitem(READERS, "bad", bad)
    monkeypatch.setattr(fuzz, "_warm_up", lambda *_: None)
    monkeypatch.setattr(fuzz, "SECONDS", 0.2 if kind == "longer than" else 10.0)
    if kind == "uses more than":
        monkeypatch.setattr(fuzz, "MOST_BYTES", 1 << 20)
        monkeypatch.setattr(fuzz, "_limit_memory", lambda: None)
    counts = fuzz.fuzz(3, 0, ["bad"], tmp_path, tmp_path / "crashes")["bad"]
    assert counts.outcomes.total() == 3
    assert all(found.startswith(str(kind)) for found in counts.faults)
    assert counts.outcomes["FAULT"] == (3 if kind else 0)
    assert len(list((tmp_path / "crashes").glob("*"))) == (1 if kind else 0)
    assert list(counts.now.values()) == (["3 FAULT"] if kind else [])


@pytest.mark.parametrize("name", IN_THIS_PROCESS)
def test_equal_seeds_give_equal_inputs(name: str) -> None:
    reader, seeds = READERS[name], {}
    made = fuzz.Seeds(Path())
    for kind in ("png", "tiff", "dicom", "csv", "xlsx"):
        seeds[kind] = made.files(kind)
    if reader.seeds not in seeds:
        pytest.skip("its inputs are parts of a sweep")
    once = [fuzz.make_input(reader, seeds[reader.seeds], 4, index) for index in range(50)]
    again = [
        fuzz.make_input(reader, seeds[reader.seeds], 4, index) for index in reversed(range(50))
    ]
    assert once == again[::-1] and len(set(once)) > 30


def test_a_run_that_was_ended_goes_on(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    fuzz.fuzz(20, 0, ["PNG"], tmp_path, state=state)
    value = json.loads(state.read_text())
    value["PNG"]["faults"] = {"a fault of then": [3]}
    state.write_text(json.dumps(value))
    found = fuzz.fuzz(50, 0, ["PNG"], tmp_path, state=state)["PNG"]
    whole = fuzz.fuzz(50, 0, ["PNG"], tmp_path)["PNG"]
    assert found.outcomes == whole.outcomes and whole.outcomes.total() == 50
    assert "| PNG | 50 |" in fuzz.table({"PNG": whole})
    now = found.now["a fault of then"]
    assert now in ("1 refused", "1 accepted")
    assert f"| PNG | a fault of then | 1 | 3 | {now} |" in fuzz.page({"PNG": found}, "scripts/fuzz")
