"""Sweeps whose file asks for more than before: only that is made, nothing earlier is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from bank_sweep import write_bank_sweep, write_banks
from local_sweep import Home
from tiny_sweep import files_of

from ensgan import metrics
from ensgan.files import read_json
from ensgan.metrics.blocks import BlockTask
from ensgan.report.content import collect
from ensgan.report.page import render
from ensgan.sweep import search_stage
from ensgan.sweep.folder import SweepFolder

MADE = ("samples", "features", "members", "banks")


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[set[str]]]:
    """Pairs of sets that were scored, by name, through the interface that tasks go through."""
    found: list[set[str]] = []
    score_pool = metrics.score_pool

    def counting(*arguments, mapper=map, **options):
        def counted(function, tasks):
            tasks = list(tasks)
            for task in tasks:
                if isinstance(task, BlockTask):
                    rows, columns = task.rows, task.columns
                    found.extend(
                        {rows[a].name, columns[b].name}
                        for a, b in zip(*task.wanted.nonzero(), strict=True)
                    )
            return mapper(function, tasks)

        return score_pool(*arguments, mapper=counted, **options)

    monkeypatch.setattr(search_stage.metrics, "score_pool", counting)
    yield found


def grown_banks(folder: Path, names: str, **sections: object) -> Path:
    """The bank sweep's file with these members."""
    path = write_bank_sweep(folder, **sections)
    write_banks(folder, "ABCDE")
    tree = yaml.safe_load(path.read_text())
    tree["members"] = [{"name": name, "images": f"{name}.npz"} for name in names]
    path.write_text(yaml.safe_dump(tree))
    return path


def test_members_from_elsewhere_join_and_leave(tmp_path: Path, pairs: list[set[str]]) -> None:
    home = Home(tmp_path / "runs")
    first = home.run(grown_banks(tmp_path, "ABC"))
    folder = SweepFolder(first.folder)
    before, recorded = files_of(folder.path, *MADE), home.store.get(first.run_id or "")
    pairs.clear()
    second = home.run(grown_banks(tmp_path, "ABCDE"))
    assert len(pairs) == 2 * (3 + 1) + 1, "the new with the real images, the old, each other"
    assert all(pair & {"D", "E"} for pair in pairs)
    after = files_of(folder.path, *MADE)
    assert {name: after[name] for name in before} == before
    # As if all had been scored at once.
    whole = Home(tmp_path / "whole").run(grown_banks(tmp_path, "ABCDE", name="banks"))
    assert second.scores.names == whole.scores.names
    assert second.scores.density.tolist() == whole.scores.density.tolist()
    assert second.scores.masks.tolist() == whole.scores.masks.tolist()
    assert second.front.points == whole.front.points
    # The earlier run stays as it was, the new one says what it grew from.
    assert second.run_id != first.run_id
    assert home.store.get(first.run_id or "") == recorded
    tags = home.store.get(second.run_id or "").tags
    assert tags["ensgan.grown_from"] == first.run_id
    assert "2 members added (D, E)" in tags["ensgan.grown"]
    assert f"Grown from run {first.run_id}" in render(collect(home.store, second.run_id or ""))
    card = read_json(second.ensemble / "ensemble.json")["provenance"]["grown_from"]
    assert card == {"run": first.run_id, "members": 3, "added": ["D", "E"]}
    # Taking away computes no score; nothing is deleted.
    pairs.clear()
    third = home.run(grown_banks(tmp_path, "ACE"))
    assert not pairs and third.scores.names == ("A", "C", "E")
    assert {name: files_of(folder.path, *MADE)[name] for name in after} == after
    # And back: all of it is there already.
    home.run(grown_banks(tmp_path, "ABCDE"))
    assert not pairs and files_of(folder.path, *MADE) == after


def test_a_growth_that_was_interrupted_still_knows_the_scores(
    tmp_path: Path, pairs: list[set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "runs")
    home.run(grown_banks(tmp_path, "ABC"))

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("ensgan.sweep.runner.score", fail)
        home.run(grown_banks(tmp_path, "ABCD"))
    pairs.clear()
    # The file has changed once more before it goes on.
    home.run(grown_banks(tmp_path, "ABDE"))
    assert len(pairs) == 2 * (2 + 1) + 1


def test_damaged_or_foreign_scores_are_not_taken_over(
    tmp_path: Path, pairs: list[set[str]]
) -> None:
    home = Home(tmp_path / "runs")
    folder = SweepFolder(home.run(grown_banks(tmp_path, "ABC")).folder)
    scores = folder.read().scores
    assert scores is not None
    other = scores.with_name("scores-0123456789abcdef.npz")
    scores.rename(other)
    folder.read().model_copy(update={"scores": other}).save(folder.manifest_path)
    pairs.clear()
    home.run(grown_banks(tmp_path, "ABCD"), settings=["score.k=4"])
    assert len(pairs) == 4 + 6
