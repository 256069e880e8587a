"""Counts as a card makes them, on the CPU: the same product of float16, bounds and rechecks."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ensgan.metrics import (
    Approximation,
    blocks,
    device_pairs,
    device_points,
    measure_pool,
    memorisation,
    prdc,
    prepare,
    radii_task,
    reference,
    score_member,
    score_pool,
)
from ensgan.metrics.knn import Backend
from ensgan.types import PoolScores

HOST_BLOCK = Backend.block
ORACLES = Path(__file__).parents[1] / "oracles" / "prdc_oracles.npz"


def play_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU plays the card, and products of the host are forbidden."""
    for module in (blocks, radii_task, reference, memorisation):
        monkeypatch.setattr(module, "make_backend", lambda *_: Backend("cpu"))
    monkeypatch.setattr(Backend, "block", None)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    play_card(monkeypatch)


def normal(points: int, dim: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(points, dim)).astype(np.float32)


def outlier(seed: int) -> np.ndarray:
    return np.vstack([normal(80, 16, seed), np.full((1, 16), 1e5, np.float32)])


def integers(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, (90, 8)).astype(np.float32)


SETS = {
    "normal": [normal(60 + s, 256, s) for s in range(4)],
    "integers": [integers(s) for s in range(4)],
    "copies": [np.repeat(normal(20, 8, s), 4, axis=0) for s in range(3)] + [np.ones((50, 8), "f4")],
    "offset": [normal(80, 16, s) + np.float32(1e4) for s in range(3)],
    "sizes": [normal(80, 16, s) * np.float32(10.0**-s) for s in range(4)],
    "outlier": [outlier(s) for s in range(3)],
    "one set": [normal(60, 16, 0)] * 3,
    "clusters": [
        np.concatenate([normal(60, 8, s) * np.float32(1e-4), normal(60, 8, s) * 1e-4 + 50])
        for s in range(3)
    ],
    "1e4": [normal(70, 16, s) * np.float32(1e4) for s in range(3)],
    "1e30": [normal(70, 16, s) * np.float32(1e30) for s in range(3)],
    "1e-30": [normal(70, 16, s) * np.float32(1e-30) for s in range(3)],
    "1e300": [normal(70, 16, s).astype("f8") * 1e298 for s in range(3)],
    "types": [normal(70, 16, s).astype(t) for s, t in enumerate(("f2", "f4", "f8"))],
}


def same(a: PoolScores, b: PoolScores) -> None:
    for name in ("density", "coverage", "masks", "directed"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize(("memory", "doubts"), [(1 << 20, 10_000), (1 << 30, -(10**9))])
def test_counts_are_those_of_the_cpu(
    kind: str, memory: int, doubts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, *fakes = SETS[kind]
    names = [f"m{index}" for index in range(len(fakes))]
    expected = measure_pool(real, fakes, names, 3)
    play_card(monkeypatch)
    monkeypatch.setattr(device_pairs, "_DOUBTS", doubts)  # the second: float64 for all
    if kind == "1e300":  # whose squares are beyond float64, and the host's business
        monkeypatch.setattr(Backend, "block", HOST_BLOCK)
    found = measure_pool(real, fakes, names, 3, memory_bytes=memory)
    same(found.scores, expected.scores)
    np.testing.assert_array_equal(found.precision, expected.precision)
    np.testing.assert_array_equal(found.recall, expected.recall)


def test_oracles_are_met(card: None) -> None:
    inputs = np.load(ORACLES)
    cases = json.loads(ORACLES.with_suffix(".json").read_text())["cases"]
    checked = 0
    for name, case in cases.items():
        if "exact" in case:
            base, n = name.rpartition("__")[0], case["n_real"]
            result = prdc(inputs[f"{base}__real"], inputs[f"{base}__fake"], case["k"])
            for measure, expected in case["exact"].items():
                counts = n if measure in ("coverage", "recall") else case["n_fake"] * case["k"]
                assert round(getattr(result, measure) * counts, 6) == round(expected * counts, 6)
            checked += 1
    assert checked >= 25


@pytest.mark.parametrize("how", ["classes", "resamples", "estimates"])
def test_classes_resamples_and_drawn_balls(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, *fakes = SETS["integers"]
    rng = np.random.default_rng(0)
    labels = [rng.integers(0, 3, len(each)) for each in (real, *fakes)]
    more: dict[str, Any] = {
        "classes": {"labels": (labels[0], labels[1:])},
        "resamples": {"resamples": 5},
        "estimates": {"approximate": Approximation(0.4)},
    }[how]
    names = ["a", "b", "c"]
    expected = score_pool(real, fakes, names, 3, **more)
    play_card(monkeypatch)
    found = score_pool(real, fakes, names, 3, **more)
    same(found, expected)
    if found.resamples is not None:
        for name, array in vars(expected.resamples).items():
            np.testing.assert_array_equal(getattr(found.resamples, name), array)


class Waits(TorchDispatchMode):
    """Counts what makes the host wait for a card."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = function.overloadpacket.__name__
        by_mask = name.startswith("index") and any(
            isinstance(each, torch.Tensor) and each.dtype == torch.bool
            for each in (args[1] if isinstance(args[1], list | tuple) else ())
        )
        if name in ("nonzero", "_local_scalar_dense", "unique_dim", "masked_select") or by_mask:
            self.seen[name] += 1
        return function(*args, **(kwargs or {}))


def test_how_often_the_host_waits(card: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times for a group of pairs, three times for the radii of a set."""
    calls: Counter[str] = Counter()

    def counted(module: Any, name: str) -> None:
        plain = getattr(module, name)

        def call(*args: Any) -> Any:
            calls[name] += 1
            return plain(*args)

        monkeypatch.setattr(module, name, call)

    counted(device_points, "to_host")
    counted(device_pairs.Tile, "count")
    sets = SETS["normal"] + SETS["normal"][::-1]
    with Waits() as waits:
        score_pool(sets[0], sets[1:], [f"m{i}" for i in range(7)], 3)
    assert set(waits.seen) == {"nonzero"}
    # The real set and six rows of the last member are one group each: several pairs a product.
    assert calls["count"] == 7 + 6 < 28
    assert waits.seen["nonzero"] + calls["to_host"] <= 4 * calls["count"] + 3 * len(sets)


@pytest.mark.parametrize("kind", ["normal", "integers", "copies", "clusters", "1e30", "types"])
def test_single_members_and_copies_are_those_of_the_cpu(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, *fakes = SETS[kind]

    def measured() -> list[Any]:
        scores = [vars(score_member(prepare(real, 3), fake)) for fake in fakes]
        copies = memorisation.MemorisationReference(real, fakes[0])
        return [*scores, vars(copies.measure(fakes[1]))]

    expected = measured()
    play_card(monkeypatch)
    for found, wanted in zip(measured(), expected, strict=True):
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-14, err_msg=name)


def test_a_card_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Smaller groups, then the CPU, and each is said once."""
    real, *fakes = SETS["normal"]
    names, told, whole = ["a", "b", "c"], [], device_points.product
    expected = score_pool(real, fakes, names, 3)
    play_card(monkeypatch)
    monkeypatch.setattr(device_points, "_LARGEST_TILE", 1 << 14)
    monkeypatch.setattr(device_points, "_LEAST_BYTES", 48 << 10)
    monkeypatch.setattr(Backend, "block", HOST_BLOCK)
    for most, sentences in ((3000, 1), (0, 2)):

        def product(rows: torch.Tensor, columns: torch.Tensor, most: int = most) -> torch.Tensor:
            if len(rows) * len(columns) > most:
                raise torch.cuda.OutOfMemoryError("pretended")
            return whole(rows, columns)

        monkeypatch.setattr(device_points, "product", product)
        told.clear()
        same(score_pool(real, fakes, names, 3, on_warning=told.append), expected)
        assert len(" ".join(told).split("out of memory")) == 1 + sentences, told
        assert "smaller groups" in told[0]


@pytest.mark.parametrize("memory", [1 << 20, 1 << 30])
def test_sets_are_uploaded_once_where_there_is_room(
    memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty members in three groups; without room a set comes again for every group it meets."""
    sets = [normal(50, 96, seed) for seed in range(41)]
    names = [f"m{index}" for index in range(40)]
    expected = score_pool(sets[0], sets[1:], names, 3)
    play_card(monkeypatch)
    uploads: Counter[object] = Counter()
    plain = device_points.Placed.of.__func__  # type: ignore[attr-defined]

    def counted(cls: type, piece: device_points.Piece, *args: Any) -> device_points.Placed:
        uploads[piece.of.key] += 1
        return plain(cls, piece, *args)

    monkeypatch.setattr(device_points.Placed, "of", classmethod(counted))
    same(score_pool(sets[0], sets[1:], names, 3, memory_bytes=memory), expected)
    assert len(uploads) == 41
    assert (set(uploads.values()) == {1}) == (memory == 1 << 30)


def test_kept_sets_are_given_up_before_groups_get_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = [normal(50, 96, seed) for seed in range(41)]
    names, told = [f"m{index}" for index in range(40)], list[str]()
    expected = score_pool(sets[0], sets[1:], names, 3)
    play_card(monkeypatch)
    memories: dict[int, device_points.CardMemory] = {}
    whole, keep = device_points.product, device_points.CardMemory.keep

    def kept(self: device_points.CardMemory, *args: Any, **needs: Any) -> None:
        memories[id(self)] = self
        keep(self, *args, **needs)

    def product(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        # Sixteen rows and the set that they meet are all there is room for.
        if any(len(memory.placed) > 17 for memory in memories.values()):
            raise torch.cuda.OutOfMemoryError("pretended")
        return whole(rows, columns)

    monkeypatch.setattr(device_points.CardMemory, "keep", kept)
    monkeypatch.setattr(device_points, "product", product)
    monkeypatch.setattr(Backend, "block", HOST_BLOCK)
    same(score_pool(sets[0], sets[1:], names, 3, on_warning=told.append), expected)
    assert not [sentence for sentence in told if "out of memory" in sentence]
