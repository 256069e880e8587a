"""Recorded sweeps that the commands on runs are tried on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ensgan.ensemble import (
    TAG_DIGEST,
    MemberSource,
    ensemble_digest,
    write_bank,
    write_ensemble,
)
from ensgan.store import find_run, open_store
from ensgan.types import ImageShape, Samples


@pytest.fixture(scope="session")
def banks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ensemble of two sample banks."""
    here = tmp_path_factory.mktemp("banks")
    rng = np.random.default_rng(0)
    sources = []
    for name in ("A@1", "B@2"):
        images = rng.integers(0, 256, (120, 8, 8), dtype=np.uint8)
        path = write_bank(here / f"{name}.st", Samples(images, np.arange(120, dtype=np.int64) % 2))
        sources.append(MemberSource(name, 1.0, path, kind="bank"))
    return write_ensemble(
        here / "ensemble",
        members=sources,
        shape=ImageShape(1, 8),
        class_names=["normal", "pneumonia"],
        class_shares=[0.5, 0.5],
        metrics={"intra_d": 0.8},
        dataset={"name": "phantom"},
        extractor={"name": "random"},
        provenance={},
        licences=[],
    )


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory, banks: Path) -> Path:
    """Two recorded sweeps, the second with an ensemble; whoever adds a run removes it."""
    storage = tmp_path_factory.mktemp("storage")
    store = open_store(storage=storage)
    for name, dataset, score in [("first", "breastmnist", 0.5), ("<b>second</b>", "phantom", 0.8)]:
        run_id = store.create_run(name, kind="sweep", params={"dataset": dataset, "members": 6})
        store.log_metrics(run_id, {"intra_d": score, "inter_d": 0.3})
        store.create_run("SNGAN", kind="gan", parent=run_id)
    store.log_folder(run_id, banks, "ensemble")
    store.set_tags(run_id, {"ensgan.selected": "A@1,B@2", TAG_DIGEST: ensemble_digest(banks)})
    store.finish(run_id)
    return storage


@pytest.fixture
def run_id(storage: Path) -> str:
    return find_run(open_store(storage=storage), "<b>second</b>")
