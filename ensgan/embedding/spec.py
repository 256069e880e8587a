"""A row of the extractor table: how images become a network's input, and where its weights are.

Weights are downloaded or given as a file, checked, and never unpickled into code.
"""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from ensgan.errors import DataError, InputError, IntegrityError
from ensgan.files import atomic_path, first_bytes, read_json, sha256_file, write_json
from ensgan.inputs import explained
from ensgan.types import Dataset, UInt8Array

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Options: TypeAlias = Mapping[str, Any]
"""JSON-able settings that, with the weights, rebuild an extractor."""

OnProgress: TypeAlias = Callable[[int, int], None]
"""Called with (done, total)."""


@dataclass(frozen=True)
class Request:
    """What the caller of :func:`make_extractor` gave.

    Attributes:
        weights: a weight file for offline sites, None to use the extractor's own source.
        dataset: the real data, for extractors that depend on it.
        seed: for networks drawn or trained here.
        cache: folder for downloaded and trained weights.
        device: where to train.
        on_progress: called with (epochs done, epochs at most) by networks trained here.
    """

    weights: Path | None = None
    dataset: Dataset | None = None
    seed: int = 0
    cache: Path | None = None
    device: str = "cpu"
    on_progress: OnProgress | None = None

    def refuse_weights(self, name: str) -> None:
        """Raise InputError if a weight file was given to an extractor that takes none."""
        if self.weights is not None:
            raise InputError(
                f"the extractor '{name}' makes its own weights and takes no file, "
                f"but was given {self.weights}: leave the weights out"
            )


@dataclass(frozen=True)
class Preprocessing:
    """How stored images become the network's input.

    Attributes:
        channels: channels the network takes; grey is repeated to three.
        size: side the images are resized to with an anti-aliased bicubic filter; None keeps theirs.
        mean, std: subtracted and divided by after scaling to 0…1, one value per channel or one.
    """

    channels: int
    size: int | None = None
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)

    def __call__(self, images: UInt8Array, device: torch.device) -> Tensor:
        """uint8 [n,H,W] or [n,H,W,C] → float32 [n,channels,size,size] on ``device``.

        Raises:
            InputError: the images have a number of channels the network cannot take.
        """
        x = torch.from_numpy(np.ascontiguousarray(images))
        if device.type == "cuda":
            x = x.pin_memory()  # which the card reads while it computes
        x = x.to(device, non_blocking=True)
        x = x.unsqueeze(1) if x.ndim == 3 else x.permute(0, 3, 1, 2)
        if x.shape[1] not in (1, self.channels):
            raise InputError(
                f"images of {x.shape[1]} channels, but this extractor takes {self.channels}: "
                "convert the images, or make the extractor for this data set"
            )
        x = x.to(torch.float32).div_(255)
        if self.size is not None and x.shape[2:] != (self.size, self.size):
            sides = (self.size, self.size)
            x = functional.interpolate(x, sides, mode="bicubic", antialias=True).clamp_(0, 1)
        mean = torch.tensor(self.mean, device=device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=device).view(1, -1, 1, 1)
        return ((x.expand(-1, self.channels, -1, -1)) - mean).div_(std).contiguous()


@dataclass(frozen=True)
class ExtractorSpec:
    """How one extractor is made.

    Attributes:
        name: what users write.
        prepare: from a request, the options and the weights (names → tensors).
        network: from options, the network without its weights; it has an attribute ``dim``.
        preprocessing: from options, how images become its input.
        chunk: images the network sees at once on a CPU; 16 times as many on a GPU.
        licence: terms of the weights, empty when they are made here.
    """

    name: str
    prepare: Callable[[Request], tuple[Options, dict[str, Tensor]]]
    network: Callable[[Options], nn.Module]
    preprocessing: Callable[[Options], Preprocessing]
    chunk: int
    licence: str = ""


_TIMEOUT = 30.0


@dataclass(frozen=True)
class WeightSource:
    """Where a weight file is published.

    Attributes:
        url: of the file.
        sha256: its checksum or, where only these are published, its first digits. Empty when
            none is published: the checksum of the first download is kept in the cache, and later
            downloads must equal it.
    """

    url: str
    sha256: str = ""


def obtain_weights(
    name: str, source: WeightSource, weights: Path | None, cache: Path | None
) -> dict[str, Tensor]:
    """The state dict of a published network: from a file given, the cache, or its URL.

    A download is checked, converted to safetensors in ``cache`` and removed. The cached copy is
    known by its own checksum and read without network.

    Raises:
        DataError: the file is missing or is no weight file.
        InputError: there is no file and no cache folder, or the download failed.
        IntegrityError: a checksum does not match.
    """
    if weights is not None:
        return read_weights(weights)
    if cache is None:
        raise InputError(
            f"the extractor '{name}' needs its published weights: give a cache folder to download "
            f"{source.url} into, or the file itself as weights"
        )
    kept = cache / f"{name}.safetensors"
    record = kept.with_suffix(".json")
    if kept.exists() and record.exists():
        if sha256_file(kept) != _recorded(record, "sha256"):
            raise IntegrityError(f"{kept} was changed after its conversion: delete it and retry")
        return read_weights(kept)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=cache) as folder:
        original = Path(folder) / "download"
        _download(name, source.url, original)
        digest = sha256_file(original)
        expected = source.sha256
        if not expected and record.exists():
            expected = _recorded(record, "source_sha256")
        if not digest.startswith(expected):
            raise IntegrityError(
                f"{source.url} has the SHA-256 {digest}, but {expected}… was expected: the "
                "download is damaged or the file was replaced"
            )
        state = read_weights(original)
    write_tensors(kept, state)
    write_json(record, {"url": source.url, "source_sha256": digest, "sha256": sha256_file(kept)})
    return state


def _recorded(record: Path, field: str) -> str:
    with explained(f"{record} is damaged: delete it and retry"):
        return str(read_json(record)[field])


def _download(name: str, url: str, target: Path) -> None:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as stream, target.open("wb") as file:
            shutil.copyfileobj(stream, file)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise InputError(
            f"the weights of '{name}' cannot be downloaded from {url} ({error}): fetch the file "
            "on a machine with network and give it as weights"
        ) from error


def write_tensors(
    path: Path, state: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a state dict to a safetensors file, atomically.

    Raises:
        StoreError: the file cannot be written.
    """
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in state.items()
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata)


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state dict from ``.safetensors`` or a torch file, tensors only.

    torch files are read with ``weights_only``, so nothing in them is executed. Wrappers that
    training scripts add (``state_dict`` entries, ``module.`` prefixes) are taken off.

    Raises:
        DataError: the file is missing, damaged, or holds anything but tensors.
    """
    if not path.is_file():
        raise DataError(f"no such weight file: {path}")
    with explained(f"{path} cannot be read as safetensors or as a torch file of plain tensors"):
        # 8 bytes of length, then a JSON object: told from a zip or pickle by the brace.
        if first_bytes(path, 9)[8:] == b"{":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    return _state_dict(content, path)


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise DataError(f"{path} holds {type(content).__name__}, not a state dict of tensors")
    wrong = [name for name, value in content.items() if not isinstance(value, Tensor)]
    if wrong:
        raise DataError(f"{path} is not a state dict: '{wrong[0]}' is no tensor")
    return {
        str(name).removeprefix("module."): value.contiguous().clone()
        for name, value in content.items()
    }


def fit_to(
    network: nn.Module, state: Mapping[str, Tensor], name: str, ignore: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """The part of a state dict that a network needs, every tensor checked.

    Args:
        network: what is to be loaded.
        state: what there is.
        name: of the extractor, for messages.
        ignore: prefixes of entries that the features do not need (classification heads).

    Raises:
        DataError: entries are missing, unknown or of another shape.
    """
    wanted = network.state_dict()
    kept = {key: value for key, value in state.items() if not key.startswith(ignore or (" ",))}
    for key in wanted:
        # Old files lack the counters of batch normalisation, which inference never reads.
        if key.endswith("num_batches_tracked"):
            kept.setdefault(key, torch.zeros((), dtype=torch.int64))
    problems = [f"lacks {key}" for key in wanted if key not in kept]
    problems += [f"has the unknown entry {key}" for key in kept if key not in wanted]
    problems += [
        f"{key} has shape {list(kept[key].shape)}, expected {list(wanted[key].shape)}"
        for key in wanted
        if key in kept and kept[key].shape != wanted[key].shape
    ]
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise DataError(
            f"the weights do not fit the extractor '{name}': {'; '.join(problems[:3])}{more}"
        )
    return {key: kept[key] for key in wanted}
