"""Extractors: networks with their preprocessing, known by the hash of all they depend on.

:func:`embed` runs one over any number of images, once for the same content.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional

from ensgan import files
from ensgan.caches import read_cached, write_cached
from ensgan.embedding.spec import ExtractorSpec, OnProgress, Options, Request, write_tensors
from ensgan.embedding.table import MEDICAL, PUBLISHED, RANDOM
from ensgan.errors import DataError, InputError, IntegrityError
from ensgan.inputs import explained
from ensgan.precision import arithmetic
from ensgan.registry import Registry
from ensgan.types import Dataset, Embeddings, Float32Array, UInt8Array

FORMAT = 1

EXTRACTORS: Registry[ExtractorSpec] = Registry(
    "extractor", "ensgan.extractors", ExtractorSpec, (RANDOM, MEDICAL, *PUBLISHED)
)
"""All extractors; an installed package adds its own through the group ``ensgan.extractors``."""


class Extractor:
    """Maps images to feature vectors; equal keys mean equal features (up to float rounding).

    Attributes:
        name: registry name.
        dim: dimension of the feature vectors.
        preprocessing: what happens to an image before the network.
        licence: terms of the weights, empty when they are free of any.
    """

    def __init__(
        self,
        spec: ExtractorSpec,
        options: Options,
        weights: Mapping[str, Tensor],
        device: str | torch.device = "cpu",
    ) -> None:
        self.name = spec.name
        self.licence = spec.licence
        self.preprocessing = spec.preprocessing(options)
        self.device = torch.device(device)
        self._chunk = spec.chunk * (1 if self.device.type == "cpu" else 16)
        self._options = dict(options)
        network = spec.network(options)
        network.load_state_dict(weights)
        self.dim = int(getattr(network, "dim"))  # noqa: B009
        names = sorted(weights)
        arrays = [weights[name].detach().cpu().contiguous().numpy() for name in names]
        self.weights_sha256 = files.sha256_arrays(np.array(names), *arrays)
        network.eval().requires_grad_(False).to(self.device)
        self._network = network

    @property
    def key(self) -> str:
        """Content key of all the features depend on: name, weights, preprocessing."""
        return files.content_key(FORMAT, self.name, self.weights_sha256, asdict(self.preprocessing))

    def __call__(self, images: UInt8Array, on_progress: OnProgress | None = None) -> Float32Array:
        """Embed images: uint8 [n,H,W] or [n,H,W,C] → float32 [n,dim].

        The network always sees the same number of images at once (the last group is padded), so a
        vector does not depend on how many images are embedded together. Float32 on every device.

        Raises:
            InputError: the images are not uint8 or have channels the network cannot take.
        """
        if images.dtype != np.uint8 or images.ndim not in (3, 4):
            raise InputError(
                f"images must be uint8 [n,H,W] or [n,H,W,C], not "
                f"{images.dtype} {list(images.shape)}"
            )
        features = np.empty((len(images), self.dim), np.float32)
        waiting: tuple[slice, Tensor] | None = None
        # In float32 on a card, too: images of a pool may be embedded in many places.
        tunes = torch.backends.cudnn.benchmark
        single = arithmetic("float32", torch.device("cuda"), tunes=tunes)
        with torch.inference_mode(), single:
            for start in range(0, len(images), self._chunk):
                part = slice(start, min(start + self._chunk, len(images)))
                x = self.preprocessing(images[part], self.device)
                x = functional.pad(x, (0, 0, 0, 0, 0, 0, 0, self._chunk - len(x)))
                y = self._network(x)[: part.stop - start].to(torch.float32)
                if waiting is not None:
                    # Fetched while the device works on the next ones, so that it never idles.
                    features[waiting[0]] = waiting[1].cpu().numpy()
                waiting = part, y
                if on_progress is not None:
                    on_progress(part.stop, len(images))
            if waiting is not None:
                features[waiting[0]] = waiting[1].cpu().numpy()
        return features

    def save(self, path: Path) -> None:
        """Write weights and description to one safetensors file that :func:`load_extractor` reads.

        Raises:
            StoreError: the file cannot be written.
        """
        description = {
            "format": FORMAT,
            "name": self.name,
            "options": self._options,
            "licence": self.licence,
            "key": self.key,
        }
        about = {"ensgan.extractor": json.dumps(description)}
        write_tensors(path, self._network.state_dict(), about)


def make_extractor(
    name: str,
    *,
    weights: Path | None = None,
    dataset: Dataset | None = None,
    seed: int = 0,
    cache: Path | None = None,
    device: str = "cpu",
    on_progress: OnProgress | None = None,
) -> Extractor:
    """Make an extractor.

    Args:
        name: one of ``EXTRACTORS.names()``.
        weights: weight file (``.safetensors``, ``.pth``, ``.pt``, ``.tar``) for sites without
            network; None downloads or makes the weights.
        dataset: the real data: ``medical`` is trained on its training split, ``random`` takes its
            number of channels from it (grey without).
        seed: of the networks drawn or trained here.
        cache: folder that keeps downloaded, converted and trained weights between calls.
        device: where the network runs, e.g. ``"cpu"`` or ``"cuda:0"``.
        on_progress: called with (epochs done, epochs in all) while ``medical`` is trained.

    Raises:
        InputError: unknown name, or a missing data set or package.
        DataError: the weight file is missing, damaged or made for another network.
        IntegrityError: a download has another checksum than published.
    """
    spec = EXTRACTORS.get(name)
    options, tensors = spec.prepare(Request(weights, dataset, seed, cache, device, on_progress))
    return Extractor(spec, options, tensors, device)


def load_extractor(path: Path, device: str = "cpu") -> Extractor:
    """Rebuild the extractor that :meth:`Extractor.save` wrote, in any process.

    Args:
        path: of the file.
        device: where the network runs, e.g. ``"cpu"``; ``"auto"``: a GPU where there is one.

    Raises:
        DataError: the file is missing, damaged or not an extractor.
        IntegrityError: the rebuilt extractor has another content key than the saved one.
    """
    if not path.is_file():
        raise DataError(f"no such extractor file: {path}")
    with (
        explained(f"{path} cannot be read as safetensors"),
        safe_open(path, framework="pt") as archive,
    ):
        text = (archive.metadata() or {}).get("ensgan.extractor", "{}")
        recorded = files.parse_json(text, str(path))
        description = recorded if isinstance(recorded, dict) else {}
        tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
    if description.get("format") != FORMAT:
        raise DataError(
            f"{path} has extractor format {description.get('format')!r}, this version reads "
            f"{FORMAT}: make the extractor again with Extractor.save"
        )
    spec = EXTRACTORS.get(str(description.get("name")))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    with explained(f"{path} does not fit the extractor '{spec.name}'"):
        extractor = Extractor(spec, description["options"], tensors, device)
    if extractor.key != description.get("key"):
        raise IntegrityError(
            f"{path} holds the extractor {extractor.key}, but says {description.get('key')}: "
            "make the extractor again"
        )
    return extractor


def embed(
    images: UInt8Array,
    extractor: Extractor,
    *,
    cache: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Embeddings:
    """Embed images, or read the features that an earlier call kept.

    Args:
        images: uint8 [n,H,W] or [n,H,W,C]; may be memory-mapped.
        extractor: the network.
        cache: folder of earlier results, named by the content of images and extractor; kept
            within ``ENSGAN_CACHE_GB``.
        on_progress: called with (images done, n) after every group that the network sees.

    Returns:
        Embeddings of n rows.

    Raises:
        InputError: the images do not suit the extractor.
        DataError: the network produced non-finite features.
    """
    path = None
    if cache is not None:
        path = cache / f"{files.content_key(files.sha256_arrays(images), extractor.key)}.npz"
        cached = read_cached(path, ("features",))
        if cached is not None and cached["features"].shape == (len(images), extractor.dim):
            return Embeddings(cached["features"], extractor.key)
    features = extractor(images, on_progress)
    wrong = int((~np.isfinite(features).all(axis=1)).sum())
    if wrong:
        raise DataError(
            f"the extractor '{extractor.name}' gave non-finite features for {wrong} of "
            f"{len(images)} images: its weights are damaged or not meant for it"
        )
    if path is not None:
        write_cached(path, features=features, extractor=np.array(extractor.key))
    return Embeddings(features, extractor.key)


def write_features(path: Path, images: UInt8Array, extractor: Extractor) -> Float32Array:
    """Embed images and keep their features in an ``.npy`` file: float32 [n,dim]."""
    features = embed(images, extractor).features
    with files.atomic_path(path) as temporary:
        np.save(temporary, features)
    return features


def keep_features(
    path: Path, images: Callable[[], UInt8Array], extractor: Callable[[], Extractor]
) -> None:
    """Features in a file named by the key of their content: read if it is whole, else made.

    A file beside them holds their SHA-256; where an early version wrote none, they must be
    readable.
    """
    with suppress(DataError):
        if files.is_whole(path):
            files.map_array(path, larger=True)
            return
    write_features(path, images(), extractor())
    files.seal(path)
