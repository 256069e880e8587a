"""A recorded sweep in memory, as the pages about it find it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from memory_store import MemoryStore
from tiny_sweep import tiny

from ensgan.config import parse_spec
from ensgan.files import write_json
from ensgan.report.content import image_grid
from ensgan.types import Front, FrontPoint, PoolScores, Samples

EVIL = "<script>alert('x')</script>\"'{{7*7}}"
POINTS = (
    FrontPoint(("A@10", "B@10"), 0.9, 0.4, 0.9, 0.9),
    FrontPoint(("A@10", "B@20"), 0.7, 0.1, 0.7, 0.7),
)
FRONT = Front(("intra_d:max", "inter_d:min:symmetric"), "ensemble", 0, 9, 8, 0.1, 0.7, POINTS)
SPREAD = {"mean": 0.75, "sd": 0.05, "low": 0.6, "high": 0.9, "difference": 0.0, "p": 0.04}
ROW = {
    "images": 40,
    "copy_candidates": 3,
    "copy_share": 0.075,
    "baseline_share": 0.01,
    "median_ratio": None,
    "authenticity": 0.6,
    "c_t": -2.5,
    "p_value": 0.006,
}


def manifest() -> dict[str, Any]:
    members = {
        name: {
            "name": name,
            "weights": f"train/{name}.safetensors",
            "sha256": "ab" * 32,
            "samples": f"samples/{name}.npz",
            "features": f"features/{name}.npy",
            "intra_d": 0.5,
            "density": 0.4,
            "coverage": 0.6,
            "metrics": {},
            "health": ["one image only"] if name == "B@10" else [],
            "seconds": {},
            "work": [],
        }
        for name in ("A@20", "A@10", "B@10", "B@20")
    }
    spec = parse_spec(tiny(name="evil", dataset={"name": EVIL}, train={"gans": ["A", "B"]}))
    return {
        "schema": 2,
        "spec": spec.model_dump(mode="json"),
        "planned": 4,
        "status": "finished",
        "started": 1.0,
        "finished": 2.0,
        "gans": ["A", "B"],
        "steps": {"A": 20, "B": 20},
        "dataset": {
            "name": EVIL,
            "key": "cd" * 32,
            "source": EVIL,
            "classes": ["normal", EVIL],
            "images": {"train": 8, "val": 4, "test": 4},
        },
        "members": members,
        "failed": {"C": EVIL},
        "front": "search/front.json",
        "privacy": "privacy/memorisation.json",
        "selected": {"rule": "knee", "reason": EVIL, **POINTS[0].to_json()},
        "stages": {"train": 12.5},
        "versions": {"ensgan": "0.1.0", "commit": EVIL},
    }


def scores() -> PoolScores:
    """Of the four members and one whose name tries to write markup."""
    names = ("A@10", "A@20", "B@10", "B@20", EVIL)
    overlap = np.full((5, 5), 0.25)
    np.fill_diagonal(overlap, np.nan)
    density, coverage = np.linspace(0.3, 0.7, 5), np.full(5, 0.25)
    masks = np.full((5, 1), 0b10100000, np.uint8)
    counts = np.full(5, 8, np.int64)
    return PoolScores(names, density, coverage, masks, overlap, 5, 8, counts)


def pixels(seed: int, n: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 8, 8), dtype=np.uint8)


def recorded(folder: Path, *, bare: bool = False) -> tuple[MemoryStore, str]:
    """A store with one finished sweep whose names try to write markup, and its run ID.

    Args:
        folder: a storage; its sweep's folder holds real images and members' images.
        bare: record the manifest alone.
    """
    value = manifest()
    sweep = folder / "sweeps" / "evil"
    nearest = [
        {
            "image": 3,
            "training_image": 5,
            "distance": 0.1,
            "isolation": 0.4,
            "copy_candidate": True,
        }
    ]
    privacy = {
        **{"held_out": "val", "held_out_images": 4, "train_images": 8, "copy_ratio": 0.5},
        **{"ensemble": ROW, "members": {EVIL: ROW}, "nearest": {"A@10": nearest}},
    }
    store = MemoryStore()
    run_id = store.create_run(EVIL, kind="sweep", tags={"ensgan.note": EVIL})
    write_json(sweep / "manifest.json", value)
    write_json(sweep / "recorded.json", {"runs": {"evil": run_id}})
    write_json(sweep / "privacy" / "memorisation.json", privacy)
    labels = np.arange(8, dtype=np.int64) % 2
    Samples(pixels(1), labels).save(sweep / "data" / f"{'cd' * 8}-train.npz")
    for name in value["members"]:
        Samples(pixels(2), labels).save(sweep / value["members"][name]["samples"])
    if not bare:
        child = store.create_run("A", kind="gan", parent=run_id)
        rows = [("10", pixels(2)), ("20", pixels(3))]
        _log(store, child, folder, "grid-A/A.png", image_grid(rows))
        _log(store, run_id, folder, "grids/selected.png", image_grid(rows))
        scores().save(folder / "scores.npz")
        _log(store, run_id, folder, "pool/scores.npz", (folder / "scores.npz").read_bytes())
        _log(store, run_id, folder, "front/front.json", FRONT.to_json())
        _log(store, run_id, folder, "privacy/memorisation.json", privacy)
        row = {"strategy": EVIL, "members": ["A@10"], "repeats": 2, "metrics": {"auc": SPREAD}}
        table = {
            "reference": "selected",
            "test": "paired t",
            "strategies": [row],
            "undecided": "undecided: too little training",
            "verdict": "undecided: too little training",
        }
        _log(store, run_id, folder, "downstream/table.json", table)
        ensemble = {
            "members": [{"name": "A@10", "weight": 1.0}],
            "extractor": {"name": "swav"},
            "licences": [EVIL, "SwAV weights: CC BY-NC 4.0"],
            "provenance": {"cautions": [f"{EVIL} reaches no real image"]},
        }
        _log(store, run_id, folder, "ensemble/ensemble.json", ensemble)
    _log(store, run_id, folder, "manifest.json", value)
    store.finish(run_id)
    return store, run_id


def _log(store: MemoryStore, run_id: str, folder: Path, name: str, content: Any) -> None:
    path = folder / "logged" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    path.write_bytes(data)
    store.log_file(run_id, path, name.rpartition("/")[0])
