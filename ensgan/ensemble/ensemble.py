"""An ensemble in use: images from its members by their shares."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partialmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ensgan.ensemble.export import ImageFormat, save_images
from ensgan.ensemble.manifest import Manifest, check_digest, check_size, ensemble_digest
from ensgan.ensemble.members import Member, Plan, derived_seed, kind_named, make_plan
from ensgan.errors import InputError, unknown_name
from ensgan.types import ImageShape, Int64Array, Samples
from ensgan.types.display import table_html

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import DataLoader, TensorDataset

Labels: TypeAlias = str | int | Sequence[str | int] | Int64Array | None
"""Class of each image by name or number, or one for all; None draws by the training shares."""


@dataclass(frozen=True)
class Transformed:
    """Images and labels for a ``DataLoader``; each image goes through a function when asked for."""

    pairs: TensorDataset
    transform: Callable[[Tensor], Any]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Any, Tensor]:
        image, label = self.pairs[index]
        return self.transform(image), label


class Ensemble:
    """Generators with shares, opened by :func:`load_ensemble`.

    Image i of a seed depends on the seed, i and its label only (from a sample bank, also on how
    many of its class came before it): a longer or shorter request, the command line and Python, all
    give the same bytes on the same machine. Weights are read, and hashed once more, when a member
    makes its first image.

    Attributes:
        folder: where its files lie.
        manifest: what ``ensemble.json`` says.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._open: dict[int, Member] = {}

    def __len__(self) -> int:
        return len(self.manifest.members)

    def __repr__(self) -> str:
        size = f"{self.shape.channels}×{self.shape.size}×{self.shape.size}"
        return f"Ensemble({', '.join(self.member_names)}; images {size})"

    def _repr_html_(self) -> str:
        """The members with their shares, what was measured, and the licence."""
        names = ("member", "share", "kind")
        rows = [(member.name, member.weight, member.kind) for member in self.manifest.members]
        measured = table_html(("measured", "value"), sorted(self.manifest.metrics.items()))
        licences = table_html(["licence"], [[text] for text in self.manifest.licences])
        return table_html(names, rows, repr(self)) + measured + licences

    @property
    def member_names(self) -> tuple[str, ...]:
        """Names of the members."""
        return self.manifest.member_names

    @property
    def weights(self) -> tuple[float, ...]:
        """Shares of the members, sum 1."""
        return tuple(member.weight for member in self.manifest.members)

    @property
    def shape(self) -> ImageShape:
        """Shape of one image."""
        return self.manifest.shape

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in label order."""
        return tuple(self.manifest.class_names)

    def facts(self) -> dict[str, Any]:
        """Members with their shares, image [C,H,W], classes and scores, as JSON-able values."""
        return {
            "members": dict(zip(self.member_names, self.weights, strict=True)),
            "image": [self.shape.channels, self.shape.size, self.shape.size],
            "classes": list(self.class_names),
            "metrics": self.manifest.metrics,
        }

    def sample(
        self, n: int, labels: Labels = None, seed: int = 0, *, replacement: bool = False
    ) -> Samples:
        """Make ``n`` images.

        Args:
            labels: the class of each image, n of them, by name or number, or one class for all;
                drawn by the training shares when None.
            seed: 0 … 2⁶³-1.
            replacement: whether a sample bank that runs out may repeat its images.

        Returns:
            images with their labels; ``members`` says which member made each.

        Raises:
            InputError: ``n``, a label or the seed is out of range, or a sample bank holds fewer
                images than it is to give.
            IntegrityError: a weight file has changed since it was verified.
        """
        return self._make(self._plan(n, seed, labels), seed, replacement)

    def stream(self, batch: int, seed: int = 0) -> Iterator[Samples]:
        """Endless batches: the images of ``sample(…, seed=seed)`` one batch after another.

        A sample bank whose images have all been shown begins anew in another order.
        """
        made, start = np.zeros((len(self), len(self.class_names)), np.int64), 0
        while True:
            plan = self._plan(batch, seed, start=start, made=made)
            yield self._make(plan, seed, replacement=True)
            made, start = plan.made, start + batch

    def dataset(
        self,
        n: int,
        labels: Labels = None,
        seed: int = 0,
        *,
        replacement: bool = False,
        transform: Callable[[Tensor], Any] | None = None,
    ) -> TensorDataset | Transformed:
        """The images of :meth:`sample` as a PyTorch data set.

        Args:
            transform: applied to an image whenever it is asked for, as torchvision's are.

        Returns:
            pairs of a float32 image [C,H,W] in [0, 1], or what the transform makes of it, and an
            int64 label.
        """
        import torch
        from torch.utils.data import TensorDataset

        samples = self.sample(n, labels, seed, replacement=replacement)
        images = samples.images if samples.images.ndim == 4 else samples.images[..., None]
        tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        pairs = TensorDataset(tensor.float() / 255, torch.from_numpy(samples.labels))
        return pairs if transform is None else Transformed(pairs, transform)

    def dataloader(
        self,
        batch_size: int,
        n: int = 1000,
        seed: int = 0,
        *,
        replacement: bool = False,
        transform: Callable[[Tensor], Any] | None = None,
        **options: Any,
    ) -> DataLoader[Any]:
        """:meth:`dataset` in batches, ``n`` images in all; ``options`` go to ``DataLoader``."""
        from torch.utils.data import DataLoader

        images: Any = self.dataset(n, seed=seed, replacement=replacement, transform=transform)
        return DataLoader(images, batch_size=batch_size, **options)

    def save_png(
        self,
        folder: Path | str,
        n: int,
        labels: Labels = None,
        seed: int = 0,
        *,
        replacement: bool = False,
        form: ImageFormat = "png",
    ) -> Path:
        """Write ``n`` images as a folder of PNG files per class with ``labels.csv``."""
        samples = self.sample(n, labels, seed, replacement=replacement)
        return self.save(folder, samples, seed=seed, form=form)

    save_dicom = partialmethod(save_png, form="dicom")
    """The same as DICOM Secondary Capture files: marked synthetic, new UIDs, no patient."""

    def save(
        self, folder: Path | str, samples: Samples, *, seed: int, form: ImageFormat = "png"
    ) -> Path:
        """Write images that :meth:`sample` made with ``seed``; see :func:`save_images`."""
        return save_images(
            Path(folder),
            samples,
            self.class_names,
            seed=seed,
            ensemble=ensemble_digest(self.folder),
            form=form,
        )

    def _plan(self, n: int, seed: int, labels: Labels = None, **position: Any) -> Plan:
        """What is to be made, from a request that is checked here."""
        wanted = self._labels(n, labels)
        if not 0 <= seed < 2**63:
            raise InputError(f"the seed must be a whole number from 0 to 2^63 - 1, not {seed}")
        shares = self.manifest.class_shares
        return make_plan(
            n, seed=seed, weights=self.weights, class_shares=shares, labels=wanted, **position
        )

    def _make(self, plan: Plan, seed: int, replacement: bool) -> Samples:
        images = np.empty(self.shape.array_shape(len(plan.members)), np.uint8)
        for index in np.unique(plan.members):
            places = np.flatnonzero(plan.members == index)
            name = self.member_names[index]
            images[places] = self._member(int(index)).images(
                plan.labels[places],
                seed=derived_seed(seed, name),
                start=int(plan.ranks[places[0]]),
                turns=plan.turns[places],
                replacement=replacement,
            )
        return Samples(images, plan.labels, plan.members, self.member_names)

    def _member(self, index: int) -> Member:
        if index not in self._open:
            entry = self.manifest.members[index]
            check_size(self.folder, self.manifest, entry.file)
            content = (self.folder / entry.file).read_bytes()
            check_digest(self.manifest, entry.file, hashlib.sha256(content).hexdigest())
            self._open[index] = kind_named(entry.kind)(entry, self.manifest, content)
        return self._open[index]

    def _labels(self, n: int, labels: Labels) -> Int64Array | None:
        if n < 1:
            raise InputError(f"cannot make {n} images: ask for 1 or more")
        if labels is None:
            return None
        given = np.asarray(labels, dtype=object)
        if given.ndim == 0:
            given = np.full(n, given[()], dtype=object)
        if given.shape != (n,):
            raise InputError(f"give {n} labels, one class per image, not {len(given)}")
        numbers = {label: self._label(label) for label in set(given.tolist())}
        return np.array([numbers[label] for label in given.tolist()], np.int64)

    def _label(self, label: object) -> int:
        """The number of a class from its name or number."""
        names = self.class_names
        if isinstance(label, str):
            if label not in names:
                raise InputError(unknown_name("class", label, names))
            return names.index(label)
        if isinstance(label, bool) or not isinstance(label, (int, np.integer)):
            raise InputError(f"a label is the number or name of a class, not {label!r}")
        if not 0 <= label < len(names):
            raise InputError(
                f"there is no class {label}: labels are 0 … {len(names) - 1} "
                f"({', '.join(names[:10])})"
            )
        return int(label)
