"""The extractors by name."""

from __future__ import annotations

from pathlib import Path

from ensgan.embedding.extractor import Extractor, read_extractor_file
from ensgan.embedding.medical import MEDICAL
from ensgan.embedding.published import PUBLISHED
from ensgan.embedding.random_network import RANDOM
from ensgan.embedding.spec import ExtractorSpec, OnProgress, Request
from ensgan.errors import DataError, IntegrityError
from ensgan.registry import Registry
from ensgan.types import Dataset

EXTRACTORS: Registry[ExtractorSpec] = Registry(
    "extractor", "ensgan.extractors", ExtractorSpec, (RANDOM, MEDICAL, *PUBLISHED)
)
"""All extractors; an installed package adds its own through the group ``ensgan.extractors``."""


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
        on_progress: told epochs done and in all while ``medical`` is trained.

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

    Raises:
        DataError: the file is missing, damaged or not an extractor.
        IntegrityError: the rebuilt extractor has another content key than the saved one.
    """
    description, tensors = read_extractor_file(path)
    spec = EXTRACTORS.get(str(description["name"]))
    try:
        extractor = Extractor(spec, description["options"], tensors, device)
    except (KeyError, RuntimeError) as error:
        raise DataError(f"{path} does not fit the extractor '{spec.name}': {error}") from error
    if extractor.key != description["key"]:
        raise IntegrityError(
            f"{path} holds the extractor {extractor.key}, but says {description['key']}: "
            "make the extractor again"
        )
    return extractor
