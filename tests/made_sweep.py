"""A finished sweep made by hand: real files and manifest, nothing trained."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from memory_store import MemoryStore
from tiny_sweep import tiny

from ensgan import metrics
from ensgan.config import parse_spec
from ensgan.files import sha256_file
from ensgan.search import search, select
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.manifest import DatasetRecord, Manifest, SelectedRecord
from ensgan.sweep.records import DatasetFiles, MemberResult
from ensgan.types import Dataset, Samples

GANS = ("SNGAN", "SAGAN", "ReACGAN")
STEPS = (1, 2)


def blobs(n: int, seed: int, contrast: int = 90, size: int = 8) -> Samples:
    """Class 1 is brighter in the upper half."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n, dtype=np.int64) % 2
    images = rng.integers(0, 120, (n, size, size), dtype=np.uint8)
    images[labels == 1, : size // 2] += contrast
    return Samples(images, labels)


def make_dataset() -> Dataset:
    return Dataset("toy", blobs(64, 0), blobs(30, 1), blobs(40, 2), ("no", "yes"))


def make_sweep(
    storage: Path, store: MemoryStore | None = None, name: str = "made", **sections: object
) -> str:
    """Write the sweep below ``storage``; its run ID in ``store`` (empty without one)."""
    folder = SweepFolder(storage / "sweeps" / name)
    spec = parse_spec(tiny(name=name, train={"gans": list(GANS), "steps": 2}, **sections))
    dataset = make_dataset()
    DatasetFiles.write(dataset, folder.path / "data")
    members, features = {}, []
    for index, (gan, step) in enumerate((gan, step) for gan in GANS for step in STEPS):
        member = f"{gan}@{step}"
        images = blobs(80, 10 + index, 40 + 10 * index)
        paths = [folder.file(kind, f"{member}-x.{end}") for kind, end in _FILES]
        images.save(paths[0])
        features.append(_features(images))
        paths[1].parent.mkdir(exist_ok=True)
        np.save(paths[1], features[-1])
        paths[2].parent.mkdir(exist_ok=True)
        paths[2].write_bytes(b"weights")
        members[member] = MemberResult(
            name=member,
            weights=paths[2],
            sha256=sha256_file(paths[2]),
            samples=paths[0],
            features=paths[1],
            density=0.5,
            coverage=0.5,
            intra_d=0.5,
            metrics={},
            health=(),
            seconds={},
            work=(),
        )
    scores = metrics.score_pool(_features(dataset.train), features, list(members), k=3)
    scores.save(folder.file("scores", "scores-x.npz"))
    front = search(scores, sampler="exhaustive")
    front_path = folder.file("search", "front-x.json")
    front.save(front_path)
    selected = select(front)
    Manifest(
        spec=spec.model_dump(mode="json"),
        status="finished",
        started=time.time(),
        finished=time.time(),
        planned=len(members),
        gans=GANS,
        steps=dict.fromkeys(GANS, STEPS[-1]),
        dataset=DatasetRecord(
            name=dataset.name,
            key=dataset.key,
            source="made",
            classes=dataset.class_names,
            images={split: len(part) for split, part in dataset.splits().items()},
        ),
        members=members,
        front=front_path,
        trials=front_path,
        selected=SelectedRecord.of(selected),
        stages={"train": 1.0, "total": 2.0},
        versions={"ensgan": "0"},
    ).save(folder.manifest_path)
    return _recorded(folder, store, name)


_FILES = (("samples", "npz"), ("features", "npy"), ("train", "safetensors"))


def _features(samples: Samples) -> np.ndarray:
    images = samples.images.astype(np.float32)
    return np.stack([images[:, :4].mean((1, 2)), images[:, 4:].mean((1, 2)), images[:, 0, 0]], 1)


def _recorded(folder: SweepFolder, store: MemoryStore | None, name: str) -> str:
    from ensgan.files import write_json

    if store is None:
        return ""
    run_id = store.create_run(name, kind="sweep")
    write_json(folder.path / "recorded.json", {"key": "", "runs": {name: run_id}, "done": []})
    return run_id
