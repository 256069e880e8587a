"""Images, data sets, features and the members that make images."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ensgan.errors import DataError
from ensgan.files import read_npz, sha256_arrays, write_npz
from ensgan.inputs import explained
from ensgan.outputs import claim_folder, folder_in_one_step
from ensgan.types.display import image_sheet, picture_html, pil_images

if TYPE_CHECKING:
    from PIL import Image

BoolArray = npt.NDArray[np.bool_]
UInt8Array = npt.NDArray[np.uint8]
Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ImageShape:
    """Square images: ``channels`` (1 grey, 3 RGB) by ``size`` × ``size`` pixels."""

    channels: int
    size: int

    def array_shape(self, n: int) -> tuple[int, ...]:
        """Shape of ``n`` stored images: [n,H,W] for grey, [n,H,W,C] otherwise."""
        base = (n, self.size, self.size)
        return base if self.channels == 1 else (*base, self.channels)


@dataclass(frozen=True)
class Samples:
    """Images with labels.

    Attributes:
        images: uint8 [n,H,W] (grey) or [n,H,W,C], 0…255.
        labels: int64 [n], class indices from 0.
        members: for generated images, which member made each: int64 [n] into ``member_names``.
        member_names: names of the members, empty when unknown.
    """

    images: UInt8Array
    labels: Int64Array
    members: Int64Array | None = None
    member_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim not in (3, 4):
            raise DataError(
                f"images must be uint8 [n,H,W] or [n,H,W,C], not "
                f"{self.images.dtype} {list(self.images.shape)}"
            )
        if self.labels.shape != (len(self.images),):
            raise DataError(f"{len(self.images)} images but labels of shape {self.labels.shape}")

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        classes = np.bincount(self.labels, minlength=1).tolist() if len(self) else []
        made = f", by {', '.join(self.member_names[:5])}" if self.member_names else ""
        return (
            f"Samples({len(self)} images {list(self.images.shape[1:])}, per class {classes}{made})"
        )

    def _repr_html_(self) -> str:
        """A sheet of the first 64 images; images that may be a patient's are only counted."""
        facts = html.escape(repr(self))
        if self.members is None:
            return f"<p>{facts}: call <code>.sheet()</code> to see the images</p>"
        return f"<p>{facts}</p>{picture_html(self.sheet(), 'generated images')}"

    def sheet(self, columns: int = 16) -> Image.Image:
        """The first 64 images side by side, as one Pillow image."""
        return image_sheet(self.images, columns)

    def to_pil(self) -> list[Image.Image]:
        """Every image as a Pillow image."""
        return pil_images(self.images)

    def save_png(self, folder: Path | str) -> Path:
        """Write every image as ``INDEX_class-LABEL.png`` into a new folder.

        Raises:
            InputError: ``folder`` holds files.
            StoreError: the disk cannot be written.
        """
        destination = claim_folder(Path(folder))
        with folder_in_one_step(destination) as whole:
            for i, (image, label) in enumerate(zip(self.to_pil(), self.labels, strict=True)):
                image.save(whole / f"{i:06d}_class-{label}.png")
        return destination

    @property
    def shape(self) -> ImageShape:
        """Shape of one image."""
        channels = 1 if self.images.ndim == 3 else self.images.shape[3]
        return ImageShape(channels, self.images.shape[1])

    @cached_property
    def key(self) -> str:
        """SHA-256 over images and labels."""
        return sha256_arrays(self.images, self.labels)

    def save(self, path: Path | str) -> None:
        """Write ``images``, ``labels`` and, where known, ``members``/``member_names`` (npz)."""
        extra: dict[str, npt.ArrayLike] = {}
        if self.members is not None:
            extra = {"members": self.members, "member_names": np.array(self.member_names)}
        write_npz(Path(path), images=self.images, labels=self.labels, **extra)

    @classmethod
    def load(cls, path: Path | str) -> Samples:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: the file is missing, truncated or has other arrays.
        """
        arrays = read_npz(Path(path), ("images", "labels"))
        with explained(f"{path} holds no labelled images"):
            names = tuple(str(name) for name in arrays.get("member_names", ()))
            labels = arrays["labels"].astype(np.int64)
        return cls(arrays["images"], labels, arrays.get("members"), names)


def read_labels(path: Path) -> Int64Array:
    """The labels alone of a file of :meth:`Samples.save`; errors as :meth:`Samples.load`."""
    labels: Int64Array = read_npz(path, ("labels",), only=True)["labels"].astype(np.int64)
    return labels


def apportion(shares: Float64Array, total: int) -> Int64Array:
    """Whole numbers in these shares that sum to ``total``, by largest remainder."""
    exact = shares * total
    counts = np.floor(exact + 1e-9).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: total - int(counts.sum())]] += 1
    return counts


def check_class_names(names: Sequence[str], source: str) -> tuple[str, ...]:
    """The names, when each class can be told by its own.

    Args:
        names: one name per class, in label order.
        source: where they come from, for messages.

    Raises:
        DataError: a name that is empty, occurs twice (upper and lower case, blanks around it and
            the ways in which Unicode writes one sign count as the same), or cannot be printed.
    """
    for index, name in enumerate(names):
        if not name.strip():
            raise DataError(f"{source}: class {index} has no name")
        # Cc: control characters; Cs: bytes of a file name that are not UTF-8.
        if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in name):
            shown = name.encode("ascii", "backslashreplace").decode()
            raise DataError(
                f"{source}: the class name '{shown}' holds control characters or bytes that are "
                "not UTF-8: rename it"
            )
    folded = [unicodedata.normalize("NFKC", name).strip().casefold() for name in names]
    for name, same in zip(names, folded, strict=True):
        if folded.count(same) > 1:
            raise DataError(
                f"{source}: several classes are called '{name}' (upper and lower case count as the "
                "same): give each class a name of its own"
            )
    return tuple(names)


@dataclass(frozen=True)
class Dataset:
    """A real image set with its three splits, all at the GAN's size.

    Attributes:
        name: registry name or folder name.
        train, val, test: the splits; ``members`` is None.
        class_names: one name per class, in label order; no two are the same.
        licence: how the data may be used, empty when unknown.
        source: where it came from, for the record.
        modes: for ``phantom`` only, the known mode of every image by split name, int64 [n].
        files: where images come from files, the file of every image by split name.
        source_sizes: images by their size before, ``WIDTH×HEIGHT``; the most frequent first.
        patients: how many patients each split has, where they are known.
        warnings: problems of the source that did not prevent reading it, one sentence each.
        notes: remarks on how it was read, one sentence each.

    Raises:
        DataError: class names that repeat, are empty or cannot be printed.
    """

    name: str
    train: Samples
    val: Samples
    test: Samples
    class_names: tuple[str, ...]
    licence: str = ""
    source: str = ""
    modes: dict[str, Int64Array] = field(default_factory=dict)
    files: dict[str, tuple[str, ...]] = field(default_factory=dict)
    source_sizes: dict[str, int] = field(default_factory=dict)
    patients: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_class_names(self.class_names, self.name)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(split)}" for name, split in self.splits().items())
        size = f"{self.shape.channels}×{self.shape.size}×{self.shape.size}"
        return f"Dataset({self.name}: {sizes}; {size}; classes {', '.join(self.class_names[:10])})"

    @property
    def shape(self) -> ImageShape:
        """Shape of one image."""
        return self.train.shape

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @cached_property
    def key(self) -> str:
        """SHA-256 over the images and labels of all splits."""
        return sha256_arrays(
            *(array for split in self.splits().values() for array in (split.images, split.labels))
        )

    def splits(self) -> dict[str, Samples]:
        """The splits by name, in the order train, val, test."""
        return {"train": self.train, "val": self.val, "test": self.test}


@dataclass(frozen=True)
class Embeddings:
    """Feature vectors: float32 [n,D], and the content key of the extractor that made them."""

    features: Float32Array
    extractor: str

    def __post_init__(self) -> None:
        if self.features.ndim != 2:
            raise DataError(f"features must be [n,D], not {list(self.features.shape)}")

    def __len__(self) -> int:
        return len(self.features)
