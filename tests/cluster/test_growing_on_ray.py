"""A sweep on Ray that grows, is added to, moves and merges comes to what it does without Ray."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny_sweep import tiny

from ensgan.config import SweepSpec, parse_spec
from ensgan.launch.sweep import run_sweep
from ensgan.sweep.events import Event, SweepResult
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.live.requests import Request, RequestFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

QUICK = {"evaluate": {"strategies": []}, "select": {"rule": "knee"}}
TRAIN = {"steps": 40, "snapshots": 2, "resume_every": 20}
LONGER = {**TRAIN, "steps": 80, "snapshots": 4}


def sweep(storage: Path, spec: SweepSpec, **how: object) -> SweepResult:
    return run_sweep(spec, storage=storage, **{"address": "local", **how})  # type: ignore[arg-type]


def hashes(result: SweepResult) -> dict[str, str]:
    assert not result.failed
    return {member.name: member.sha256 for member in result.members}


def test_grown_added_to_moved_and_merged(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "a new place"
    first = parse_spec(tiny(train={**TRAIN, "vary": {"seed": [0, 1]}}, **QUICK))
    assert len(hashes(sweep(old, first))) == 8

    # Grown by a seed and two snapshots, and by a GAN that joins while they train.
    grown = parse_spec(tiny(train={**LONGER, "vary": {"seed": [0, 1, 2]}}, **QUICK))
    folder = SweepFolder(old / "sweeps" / "tiny")
    asked: list[Request] = []

    def add(event: Event) -> None:
        if event.kind == "plan" and not asked:
            asked.append(RequestFolder(folder.path).post("add", "SAGAN"))

    larger = hashes(sweep(old, grown, on_event=add))
    answer = RequestFolder(folder.path).answer_to(asked[0])
    assert answer is not None and answer.state == "done", answer
    assert len(larger) == 36 and "SAGAN~s2@80" in larger
    assert folder.read().settings.train.gans == ["SNGAN", "ACGAN-Mod", "SAGAN"]
    gans = ["SNGAN", "ACGAN-Mod", "SAGAN"]
    whole = parse_spec(tiny(train={**LONGER, "gans": gans, "vary": {"seed": [0, 1, 2]}}, **QUICK))
    assert larger == hashes(sweep(tmp_path / "at once", whole, address=None))

    # Moved; where it was there are other files now.
    theirs = tiny(name="theirs", train={**TRAIN, "gans": ["ReACGAN"]}, **QUICK)
    sweep(old, parse_spec(theirs), address=None)
    shutil.move(old, new)
    shutil.copytree(tmp_path / "at once", old)
    for file in (old / "sweeps" / "tiny" / "samples").iterdir():
        file.write_bytes(b"another's")
    assert hashes(sweep(new, whole)) == larger
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ensgan.cluster.session.ray_session", lambda *_: pytest.fail("Ray"))
        assert sweep(new, whole).run_id == sweep(new, whole).run_id  # nothing is left to do

    pool = tiny(name="both", members=[{"sweep": "tiny"}, {"sweep": "theirs"}], **QUICK)
    both = sweep(new, parse_spec({**pool, "train": {"gans": []}}))
    assert len(both.members) == 38
    assert {f"tiny+{name}" for name in larger} < set(both.scores.names)
