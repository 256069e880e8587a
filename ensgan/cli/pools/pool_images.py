"""What ``ensgan score`` reads: a pool of features, or of images that are embedded first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, TypeAlias

import torch
import typer

from ensgan.caches import cache_folder
from ensgan.cli.output import LARGEST_SIDE, progress
from ensgan.data import DATASETS, image_set, load_dataset
from ensgan.data.pool import ImagePool, is_image_pool, read_pool
from ensgan.embedding import Extractor, embed, make_extractor
from ensgan.errors import InputError
from ensgan.metrics import PoolLabels
from ensgan.metrics.extend import feature_contents, labelled_contents
from ensgan.metrics.files import PoolFeatures, load_array, load_pool
from ensgan.types import Dataset, Float32Array, UInt8Array

DataOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="NAME|DIR|FILE.npz",
        help="For pools of images: take the training images of this data set as the real ones.",
    ),
]
SizeOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--image-size",
        min=8,
        max=LARGEST_SIDE,
        help="For pools of images: side in pixels.  [default: as real images, --data: 32]",
    ),
]


@dataclass(frozen=True)
class RealSource:
    """Where the real images of a pool come from, when not from the pool's folder."""

    data: str | None = None
    data_dir: Path | None = None
    image_size: int | None = None
    accept_checksum: str | None = None

    def dataset(self) -> Dataset | None:
        """The named data set, None when none is named.

        Raises:
            InputError: there is none of that name, or it cannot be used.
        """
        if self.data is None:
            return None
        options = DATASETS.get(self.data).options if self.data in DATASETS else None
        takes = options is None or any(option.name == "accept_checksum" for option in options)
        accepted = self.accept_checksum if takes and not Path(self.data).is_dir() else None
        return load_dataset(
            self.data,
            root=self.data_dir,
            image_size=self.image_size or 32,
            options={} if accepted is None else {"accept_checksum": accepted},
        )


def read_images(folder: Path, real: RealSource) -> ImagePool:
    """A pool given as images.

    Raises:
        InputError: it holds features, or images that cannot be used.
    """
    if not is_image_pool(folder):
        raise InputError(
            f"{folder} is no pool of images: it needs real/ with images (or --data) and "
            "fake/NAME/ with images or fake/NAME.npz"
        )
    with progress("reading", "generators") as report:
        return read_pool(
            folder, dataset=real.dataset(), image_size=real.image_size, on_progress=report
        )


@dataclass(frozen=True)
class PoolSource:
    """Where a pool lies: features, or images with what embeds them.

    Attributes:
        path: file or folder.
        real: real images that are not in the pool's folder.
        extractor: name of the network that embeds images, on the GPU when there is one.
        weights: its weight file; None downloads or makes the weights (kept in the cache).
        held_out: real images never trained on, or their features.
        per_class: the labels are needed.
    """

    path: Path
    real: RealSource
    extractor: str
    weights: Path | None
    held_out: Path | None
    per_class: bool

    def read(self, scratch: Path, memory_bytes: int) -> PoolFeatures:
        """The features; what is larger than the memory is mapped, unpacked to ``scratch``.

        Raises:
            DataError: no pool, or one that cannot be read.
            InputError: real images given for a pool of features, no labels where they are needed,
                or an extractor that needs them.
        """
        if is_image_pool(self.path):
            return self._embedded()
        if self.real.data is not None:
            raise InputError(f"--data gives real images, but {self.path} holds features: drop it")
        pool = load_pool(self.path, scratch=scratch, memory_bytes=memory_bytes)
        if self.per_class and pool.labels is None:
            raise InputError(
                f"--classes per-class needs labels, which {self.path} lacks: add real_labels [N] "
                "and fake_labels [M,S] to features.npz, or score images in class folders"
            )
        held_out = None if self.held_out is None else load_array(self.held_out)
        labels = pool.labels if self.per_class else None
        contents = feature_contents(pool.real, pool.fakes, pool.names, labels)
        return replace(pool, contents=contents, labels=labels, held_out=held_out)

    def _embedded(self) -> PoolFeatures:
        """Features of images; ``held_out/`` of the pool is used unless other images are named."""
        images = read_images(self.path, self.real)
        labels: PoolLabels | None = None
        if self.per_class:
            unlabelled = [member.name for member in images.members if not member.labelled]
            if len(images.class_names) < 2 or unlabelled:
                raise InputError(
                    f"--classes per-class needs labelled images, and {self.path} has none for "
                    f"{', '.join(unlabelled) or 'the real ones'}: put them into class folders"
                )
            labels = images.real.labels, [member.samples.labels for member in images.members]
        held_out = self.held_out
        if held_out is None and (self.path / "held_out").is_dir():
            held_out = self.path / "held_out"
        sets = [images.real.images, *(member.samples.images for member in images.members)]
        if held_out is not None:
            sets.append(
                image_set.read_images(held_out, held_out.parent, images.real.shape, None)[0]
            )
        network = _extractor(self.extractor, self.weights, images)
        real, *fakes = _embed_all(sets, network)
        unseen = None if held_out is None else fakes.pop()
        names = tuple(member.name for member in images.members)
        contents = images.contents
        if labels is not None:
            contents = labelled_contents(contents, labels)
        return PoolFeatures(real, tuple(fakes), names, network.key, contents, unseen, labels)


def _embed_all(sets: Sequence[UInt8Array], network: Extractor) -> list[Float32Array]:
    """Features of sets of images; what was embedded before is read from the cache."""
    total, done = sum(map(len, sets)), 0
    features = []
    with progress("embedding", "images") as report:
        for images in sets:
            embedded = embed(
                images,
                network,
                cache=cache_folder() / "features",
                on_progress=lambda part, _, before=done: report(before + part, total),  # type: ignore[misc]
            )
            features.append(embedded.features)
            done += len(images)
            report(done, total)
    return features


def _extractor(name: str, weights: Path | None, pool: ImagePool) -> Extractor:
    if name == "medical" and weights is None and len(pool.class_names) < 2:
        raise InputError(
            "the extractor 'medical' is trained on labelled images, which this pool does not "
            "have: put the real images into class folders, give --weights, or choose another "
            "extractor"
        )
    real = pool.real
    dataset = Dataset("real", real, real, real, pool.class_names)
    return make_extractor(
        name,
        weights=weights,
        dataset=dataset,
        cache=cache_folder() / "extractors",
        device="cuda" if torch.cuda.is_available() else "cpu",
    )
