from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ensgan.ensemble.card import non_commercial


def test_the_card_says_what_a_user_must_know(intact: Path) -> None:
    card = (intact / "README.md").read_text()
    for text in (
        "Not for clinical use",
        "phantom",
        "licence: CC0",
        "SNGAN@20",
        "| 50.0% |",
        "| 1 | pneumonia | 75.0% |",
        "intra_d: 0.8",
        "No memorisation test is recorded",
        "**Non-commercial parts:** SwAV weights: CC BY-NC 4.0.",
    ):
        assert text in card


def test_downstream_results_become_a_table(publish: Callable[..., Path], tmp_path: Path) -> None:
    strategy = {"strategy": "real", "repeats": 2, "metrics": {"auc": {"mean": 0.9, "sd": 0.01}}}
    table = {"strategies": [strategy], "runs": [strategy] * 100}
    metrics = {"downstream": {**table, "undecided": "", "verdict": "better: none"}, "note": "x"}
    card = (publish(tmp_path / "e", metrics=metrics) / "README.md").read_text()
    assert "| trained on | repeats | auc |" in card
    assert "| real | 2 | 0.900 ± 0.010 |" in card
    assert "Verdict: better: none." in card
    assert len(card) < 5000
    early = {"downstream": {**table, "undecided": "undecided: too little training"}}
    card = (publish(tmp_path / "other", metrics=early) / "README.md").read_text()
    assert "Verdict: undecided: too little training." in card
    assert (
        "Verdict"
        not in (publish(tmp_path / "x", metrics={"downstream": table}) / "README.md").read_text()
    )


def test_settings_that_the_sweep_varied_stand_beside_the_members(
    publish: Callable[..., Path], tmp_path: Path
) -> None:
    varied = {"SNGAN": {"seed": 0, "learning_rate": 0.5}}
    folder = publish(tmp_path / "e", provenance={"sweep": "s", "variations": varied})
    card = (folder / "README.md").read_text()
    assert "| member | kind | share | settings |" in card
    assert "| seed 0, learning_rate 0.5 |" in card
    assert "variations:" not in card


def test_names_cannot_write_markup(publish: Callable[..., Path], tmp_path: Path) -> None:
    folder = publish(
        tmp_path / "e",
        class_names=["<script>alert(1)</script>", "a|b"],
        dataset={"name": "[x](javascript:alert(1))\n# heading"},
    )
    card = (folder / "README.md").read_text()
    assert "<script" not in card
    assert "\n# heading" not in card
    assert "[x](" not in card
    assert "a\\|b" in card


@pytest.mark.parametrize(
    ("note", "flagged"),
    [
        ("weights: CC BY-NC 4.0", True),
        ("non-commercial use only", True),
        ("Noncommercial", True),
        ("data: CC BY 4.0", False),
        ("NCSA licence", False),
        ("Apache-2.0", False),
    ],
)
def test_non_commercial_parts(note: str, flagged: bool) -> None:
    assert bool(non_commercial([note])) is flagged
