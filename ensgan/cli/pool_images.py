"""A pool brought as images: its real set, reading it, and embedding it on the way in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from ensgan.cli.output import progress
from ensgan.errors import InputError

if TYPE_CHECKING:
    from ensgan.data.pool import ImagePool
    from ensgan.embedding import Extractor
    from ensgan.metrics.files import PoolFeatures
    from ensgan.types import Dataset, PoolScores, UInt8Array

DataOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="NAME|DIR|FILE.npz",
        help="For pools of images: take the training images of this data set as the real ones.",
    ),
]
DataDirOption: TypeAlias = Annotated[
    Path | None, typer.Option("--data-dir", help="Folder of a named data set's files.")
]
SizeOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--image-size",
        min=8,
        help="For pools of images: side in pixels.  [default: as real images, --data: 32]",
    ),
]
AcceptOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--accept-checksum",
        envvar="ENSGAN_ACCEPT_CHECKSUM",
        help="MD5 or SHA-256 of a file of --data to accept instead of the official one, or 'any'.",
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
        from ensgan.data import DATASETS, load_dataset

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
    from ensgan.data.pool import is_image_pool, read_pool

    if not is_image_pool(folder):
        raise InputError(
            f"{folder} is no pool of images: it needs real/ with images (or --data) and "
            "fake/NAME/ with images or fake/NAME.npz"
        )
    with progress("reading", "generators") as report:
        return read_pool(
            folder, dataset=real.dataset(), image_size=real.image_size, on_progress=report
        )


def embed_pool(
    pool: ImagePool,
    extractor: str,
    weights: Path | None,
    on_progress: Callable[[int, int], None],
    held_out: UInt8Array | None = None,
) -> PoolFeatures:
    """Embed a pool of images; what was embedded before is read from the cache.

    Args:
        pool: the images.
        extractor: name of the network, which runs on the GPU when there is one.
        weights: its weight file; None downloads or makes the weights (kept in the cache).
        on_progress: called with (images done, images in all).
        held_out: real images never trained on, of the pool's size.

    Raises:
        InputError: an extractor that needs labels which the real images do not have.
    """
    from ensgan.caches import cache_folder
    from ensgan.embedding import embed
    from ensgan.metrics.files import PoolFeatures

    network = _extractor(extractor, weights, pool)
    sets = [pool.real.images, *(member.samples.images for member in pool.members)]
    sets += [] if held_out is None else [held_out]
    total, done = sum(map(len, sets)), 0
    features = []

    def told(before: int, part: int, _: int) -> None:
        on_progress(before + part, total)

    for images in sets:
        embedded = embed(
            images,
            network,
            cache=cache_folder() / "features",
            on_progress=partial(told, done),
        )
        features.append(embedded.features)
        done += len(images)
        on_progress(done, total)
    names = tuple(member.name for member in pool.members)
    unseen = None if held_out is None else features.pop()
    real, *fakes = features
    return PoolFeatures(real, tuple(fakes), names, network.key, pool.contents, unseen)


def known_part(
    path: Path, pool: PoolFeatures, k: int, on_warning: Callable[[str], None]
) -> PoolScores | None:
    """What of earlier scores still holds for a pool.

    Raises:
        DataError: no scores, or scores taken with other real images or settings.
    """
    from ensgan.metrics.growing import still_valid
    from ensgan.types import PoolScores

    return still_valid(
        PoolScores.load(path),
        names=pool.names,
        contents=pool.contents,
        k=k,
        extractor=pool.extractor,
        on_warning=on_warning,
    )


def _extractor(name: str, weights: Path | None, pool: ImagePool) -> Extractor:
    import torch

    from ensgan.caches import cache_folder
    from ensgan.embedding import make_extractor
    from ensgan.types import Dataset

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
