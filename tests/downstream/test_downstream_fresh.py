"""Fresh images: made anew for every epoch, the same whoever else is asked, banks for the rest."""

from __future__ import annotations

import numpy as np
import pytest

from ensgan.downstream import ClassifierSettings, MemoryBank, Strategy, run_repeat
from ensgan.downstream.drawing import FreshPool, make_drawing
from ensgan.downstream.pool import ImagePool
from ensgan.errors import DataError
from ensgan.types import Dataset, Int64Array, Samples, UInt8Array

SETTINGS = ClassifierSettings(epochs=2, width=4, images_per_epoch=40)


def images(labels: Int64Array, seed: int, size: int = 8) -> UInt8Array:
    """Noise of the seed; class 1 is brighter above."""
    made = np.random.default_rng(seed).integers(0, 150, (len(labels), size, size), dtype=np.uint8)
    made[labels == 1, : size // 2] += 60
    return made


def split(n: int, seed: int) -> Samples:
    labels = np.arange(n) % 2
    return Samples(images(labels, seed), labels)


DATA = Dataset("toy", split(40, 0), split(20, 1), split(20, 2), ("no", "yes"))
ONLY_NO = Samples(np.zeros((6, 8, 8), np.uint8), np.zeros(6, np.int64))
BANK = MemoryBank({"c": ONLY_NO}, {"a": images, "b": images})


def epochs(members: tuple[str, ...], repeat: int = 0, times: int = 2) -> list[set[bytes]]:
    """The different images by epoch."""
    drawing = make_drawing(Strategy("s", members), repeat, DATA, BANK, SETTINGS, 5)
    found = []
    for epoch in range(times):
        batch = drawing(epoch)
        assert len(batch.images) == 40 and batch.labels.bincount().tolist() == [20, 20]
        found.append({image.numpy().tobytes() for image in batch.images})
    return found


def test_no_image_comes_twice_and_repeats_differ() -> None:
    first, second = epochs(("a",))
    assert len(first | second) == 80
    assert epochs(("a",)) == [first, second]
    assert not first & epochs(("a",), repeat=1)[0]


def test_a_member_makes_the_same_series_beside_others() -> None:
    """Noise is drawn image after image: fewer images are the first of the longer series."""
    alone = make_drawing(Strategy("s", ("a",)), 0, DATA, BANK, SETTINGS, 5).synthetic
    beside = make_drawing(Strategy("s", ("b", "a")), 0, DATA, BANK, SETTINGS, 5).synthetic
    assert isinstance(alone, FreshPool) and isinstance(beside, FreshPool)
    rng = np.random.default_rng(0)
    counts = np.array([[3, 0]])
    same = alone.batch(counts, rng)
    other = beside.batch(np.concatenate([counts, counts]), rng)
    own, both = ({image.numpy().tobytes() for image in each.images} for each in (same, other))
    assert len(own) == 3 and len(both) == 6 and own < both


def test_a_member_without_weights_gives_its_bank() -> None:
    for drawn in epochs(("c", "a")):
        assert bytes(64) in drawn and len(drawn) > 20
    drawing = make_drawing(Strategy("s", ("c", "a")), 0, DATA, BANK, SETTINGS, 5)
    batch = drawing(0)
    # The bank holds no image of class 1: the other member makes all of them.
    assert batch.images[batch.labels == 1].flatten(1).any(1).all()


def test_banks_stay_as_they_were_where_nothing_makes_images() -> None:
    bank = MemoryBank({"a": split(30, 3)})
    drawing = make_drawing(Strategy("s", ("a",)), 0, DATA, bank, SETTINGS, 5)
    assert isinstance(drawing.synthetic, ImagePool)
    assert len({image.numpy().tobytes() for image in drawing(0).images}) == 30


def test_a_classifier_is_reproducible_with_fresh_images() -> None:
    strategy = Strategy("s", ("a", "b", "c"))
    once, again = (
        run_repeat(strategy, 0, dataset=DATA, bank=BANK, settings=SETTINGS, seed=1)
        for _ in range(2)
    )
    assert once.metrics == again.metrics and once.val_loss == again.val_loss
    assert once.images == 80


def test_images_of_another_size_are_refused() -> None:
    bank = MemoryBank({}, {"a": lambda labels, seed: images(labels, seed, size=4)})
    drawing = make_drawing(Strategy("s", ("a",)), 0, DATA, bank, SETTINGS, 5)
    with pytest.raises(DataError, match="4×4"):
        drawing(0)
