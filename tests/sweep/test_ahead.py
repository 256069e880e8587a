"""What of later stages is done while GANs train is found there, and is the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_sweep import tiny

from ensgan.config import parse_spec
from ensgan.downstream import Strategy
from ensgan.sweep import stages
from ensgan.sweep.ahead import Ahead, score_part
from ensgan.sweep.classifier_job import evaluate
from ensgan.sweep.executor import LocalExecutor
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.inputs import Inputs, Resolved, resolve, write_inputs
from ensgan.sweep.result import SweepResult

REPEATS = 2


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    return SweepFolder(tmp_path)


@pytest.fixture
def resolved() -> Resolved:
    return resolve(parse_spec(tiny(evaluate={"repeats": REPEATS})))


@pytest.fixture
def inputs(resolved: Resolved, folder: SweepFolder) -> Inputs:
    return write_inputs(resolved, folder)


def test_scores_of_a_part_spare_the_pool_its_pairs(
    result: SweepResult, folder: SweepFolder, resolved: Resolved, inputs: Inputs
) -> None:
    members = result.members
    ahead = Ahead(folder, resolved, inputs, planned=len(members))
    turned = (members[2], members[0], members[1])  # in the order of finishing
    piece = ahead.next(turned)
    assert piece is not None and piece.function is score_part
    assert ahead.known() is None
    waiting = ahead.next(members)
    assert waiting is not None and waiting.function is evaluate, "one part at a time"
    piece.function(piece.item)
    known = ahead.known()
    assert known is not None and known.names == tuple(member.name for member in turned)
    totals = []
    scores = stages.score(
        folder, resolved.spec, inputs, members, lambda _, of: totals.append(of), None, known
    )
    assert totals[-1] < 5 + 10  # radii of five sets and all pairs of them
    for name in ("density", "coverage", "masks", "directed", "overlap", "counts"):
        np.testing.assert_array_equal(getattr(scores, name), getattr(result.scores, name))
    ahead.discard()
    assert not list((folder.path / "scores").glob("early-*"))


def test_the_next_part_extends_the_last(
    result: SweepResult, folder: SweepFolder, resolved: Resolved, inputs: Inputs
) -> None:
    ahead = Ahead(folder, resolved, inputs, planned=4)
    first = ahead.next(result.members[:2])
    assert first is not None
    first.function(first.item)
    second = ahead.next(result.members)
    assert second is not None and second.item.known == first.item.path
    second.function(second.item)
    known = ahead.known()
    assert known is not None
    np.testing.assert_array_equal(known.overlap, result.scores.overlap)


def test_resamples_are_left_to_the_whole_pool(
    result: SweepResult, folder: SweepFolder, inputs: Inputs
) -> None:
    resolved = resolve(parse_spec(tiny(score={"resamples": 3}, evaluate={"strategies": ["all"]})))
    assert Ahead(folder, resolved, inputs, planned=4).next(result.members) is None


def test_classifiers_on_real_images_are_those_of_the_evaluation(
    folder: SweepFolder, resolved: Resolved, inputs: Inputs
) -> None:
    ahead = Ahead(folder, resolved, inputs, planned=4)
    pieces = []
    while (piece := ahead.next(())) is not None:
        pieces.append(piece)
        piece.function(piece.item)
    assert len(pieces) == REPEATS
    seen = []
    real = [Strategy("real", kind="real")]
    stages.prove(folder, resolved, inputs, (), real, LocalExecutor(), seen.append)
    assert [value["cached"] for value in seen] == [True] * REPEATS
    assert Ahead(folder, resolved, inputs, planned=4).next(()) is None
