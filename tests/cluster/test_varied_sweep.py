"""A real sweep of variations on Ray: two GANs, two seeds, two learning rates."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_sweep import files_of, tiny

import ensgan
from ensgan.config import parse_spec
from ensgan.launch import sweep as launch
from ensgan.store import open_store
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.live.status import sweep_status
from ensgan.types import gan_of

SETTINGS = ("", "~lr0.5", "~s1", "~lr0.5-s1")
NAMES = {f"{gan}{setting}" for gan in ("SNGAN", "ACGAN-Mod") for setting in SETTINGS}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_sweep_of_variations_from_training_to_images(tmp_path: Path) -> None:
    vary = {"seed": [0, 1], "learning_rate": [0.5, 1.0]}
    spec = parse_spec(tiny(name="varied", train={"vary": vary}))
    result = launch.run_sweep(spec, storage=tmp_path, address="local")

    # Every trial went by its configuration's name, and each is another training.
    assert {gan_of(member.name) for member in result.members} == NAMES
    assert len({member.sha256 for member in result.members}) == len(result.members) == 16
    assert not result.failed
    rows = sweep_status(SweepFolder(result.folder))["gans"]
    assert {row["gan"]: row["state"] for row in rows} == dict.fromkeys(NAMES, "done")

    # The GAN that nothing changes is what it is without variations.
    plain = launch.train_one(parse_spec(tiny(name="plain")), "SNGAN", storage=tmp_path)
    hashes = {member.name: member.sha256 for member in result.members}
    assert [hashes[member.name] for member in plain] == [member.sha256 for member in plain]

    # Recorded, with what was varied as parameters.
    store = open_store(None, storage=tmp_path)
    runs = {run.name: run for run in store.children(result.run_id) if run.kind == "gan"}
    assert set(runs) == NAMES
    params = runs["SNGAN~lr0.5-s1"].params
    assert params["config.gan"] == "SNGAN" and params["config.seed"] == "1"
    assert float(params["config.learning_rate"]) == 0.5
    assert float(runs["ACGAN-Mod"].params["config.learning_rate"]) == 1.0

    # Finished: run again, nothing is made.
    parts = ("train", "samples", "features", "scores", "search", "evaluate", "ensemble")
    before = files_of(result.folder, *parts)
    again = launch.run_sweep(spec, storage=tmp_path, address="local")
    assert files_of(result.folder, *parts) == before and again.run_id == result.run_id

    # Handed over: images say which member made them, the card how that was trained.
    samples = ensgan.load_ensemble(result.ensemble).sample(16, seed=1)
    assert set(samples.member_names) == set(result.selected.point.members)
    card = (result.ensemble / "README.md").read_text(encoding="utf-8")
    assert "| settings |" in card and "learning_rate" in card
