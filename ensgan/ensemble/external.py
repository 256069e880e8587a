"""Generators that ensgan does not know: run where their owner names them, kept as images.

A sampler is a Python callable ``sample(n, labels, seed)``, a TorchScript file with a method of that
name, or a ``torch.export`` file. Naming one runs it, so name only files that you trust; what is
kept of it is a bank of images, which is data.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import torch

from ensgan.ensemble.members import derived_seed
from ensgan.errors import InputError, unknown_name
from ensgan.files import sha256_file
from ensgan.inputs import explained, run_python
from ensgan.types import Int64Array, UInt8Array

RANGES: Final = ("auto", "unit", "signed")
"""What floats mean: 0…1 (``unit``), −1…1 (``signed``), or whichever the first batch shows."""

_SCRIPTS = (".pt", ".ts", ".torchscript")
_SLACK = 0.5  # how far floats may overshoot their range; they are cut
_NEGATIVE = -0.05  # a value below it tells −1…1 from 0…1


class Sampler(Protocol):
    """Makes images of given classes; equal arguments should give equal images."""

    def __call__(self, n: int, labels: Int64Array, seed: int) -> Any:
        """Images [n,H,W], [n,H,W,C] or [n,C,H,W] for ``labels`` int64 [n].

        An array or a tensor: uint8, or floats in 0…1 or −1…1. ``seed`` is in 0 … 2³²−1.
        """


def open_sampler(reference: str) -> Sampler:
    """Load a sampler; the file's code runs now.

    Args:
        reference: ``FILE.py:NAME`` or ``package.module:NAME`` (a function, or something with a
            method ``sample``; NAME is ``sample`` unless told), a TorchScript file (``.pt``,
            ``.ts``) with a method ``sample``, or a ``torch.export`` file (``.pt2``) that takes
            ``labels`` int64 [n] and draws its noise from torch's generator.

    Raises:
        InputError: no such file or name, or it cannot be loaded.
    """
    describe(reference)  # refuses a file that is missing
    try:
        with redirect_stdout(sys.stderr):
            return _open(*_parts(reference))
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{reference} cannot be loaded: {type(error).__name__}: {reason}") from (
            error
        )


def describe(reference: str) -> dict[str, str]:
    """Where a sampler comes from, without running it: ``file``, its ``sha256``, ``object``.

    Raises:
        InputError: no such file.
    """
    place, path, name = _parts(reference)
    if not is_file_reference(place):
        return {"object": f"{place}:{name}"}
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    facts = {"file": path.name, "sha256": sha256_file(path)}
    return {**facts, "object": name} if path.suffix == ".py" else facts


def _parts(reference: str) -> tuple[str, Path, str]:
    """What stands before the colon, as it is and as a path, and the name behind it."""
    place, _, name = reference.rpartition(":") if ":" in reference else (reference, "", "")
    return place, Path(place).expanduser(), name or "sample"


def is_file_reference(place: str) -> bool:
    """Whether the part before the colon means a file and not a module."""
    return Path(place).suffix in (".py", ".pt2", *_SCRIPTS)


def _open(place: str, path: Path, name: str) -> Sampler:
    if path.suffix == ".pt2":
        return _exported(path)
    if path.suffix in _SCRIPTS:
        return _scripted(path)
    if path.suffix == ".py":
        module = run_python(path, f"ensgan_external_{sha256_file(path)[:12]}")
    else:
        module = importlib.import_module(place)
    return _named(module, name, place)


def _named(module: Any, name: str, place: str) -> Sampler:
    attribute = getattr(module, name, None)
    if attribute is None:
        known = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise InputError(f"in {place}: " + unknown_name("sampler", name, known))
    sampler = getattr(attribute, "sample", attribute)
    if not callable(sampler) or isinstance(attribute, type):
        raise InputError(f"{place}:{name} is no function and has no method sample(n, labels, seed)")
    return sampler  # type: ignore[no-any-return]


def _scripted(path: Path) -> Sampler:
    module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    method = getattr(module, "sample", None)
    if method is None:
        raise InputError(f"{path} has no method sample(n, labels, seed): mark it @torch.jit.export")

    def sample(n: int, labels: Int64Array, seed: int) -> Any:
        return method(n, torch.from_numpy(labels), seed)

    return sample


def _exported(path: Path) -> Sampler:
    module = torch.export.load(path).module()

    def sample(n: int, labels: Int64Array, seed: int) -> Any:
        # It draws from torch's generator, which draw_bank has seeded.
        return module(torch.from_numpy(labels))

    return sample


def draw_bank(
    sampler: Sampler,
    labels: Int64Array,
    *,
    seed: int = 0,
    batch: int = 64,
    value_range: str = "auto",
    on_progress: Callable[[int, int], None] | None = None,
) -> UInt8Array:
    """Have a sampler make one image per label.

    Each batch gets a seed of its own, derived from ``seed``; torch's generator is set to it, and
    put back afterwards. The last batch is filled up, so that a program may have a fixed batch.

    Args:
        labels: int64 [n].
        batch: images asked for at once, fewer only when ``labels`` are fewer; another batch gives
            other images.
        value_range: one of :data:`RANGES`.
        on_progress: called with (done, n).

    Returns:
        uint8 [n,H,W] or [n,H,W,3].

    Raises:
        InputError: the sampler fails, or returns something else than images.
    """
    if value_range not in RANGES:
        raise InputError(unknown_name("value range", value_range, RANGES))
    if batch < 1 or not len(labels):
        raise InputError(f"cannot make {len(labels)} images in batches of {batch}: give 1 or more")
    batch = min(batch, len(labels))
    images: list[UInt8Array] = []
    for start in range(0, len(labels), batch):
        part = labels[start : start + batch]
        filled = np.concatenate([part, np.full(batch - len(part), part[-1], np.int64)])
        made = _call(sampler, filled, derived_seed(seed, "external", start) % 2**32)
        if value_range == "auto" and made.dtype.kind == "f":
            value_range = "signed" if made.min() < _NEGATIVE else "unit"
        images.append(_as_uint8(made, value_range)[: len(part)])
        if images[-1].shape[1:] != images[0].shape[1:]:
            raise InputError(
                f"the sampler made images of shape {list(images[0].shape[1:])} and then of "
                f"{list(images[-1].shape[1:])}: they must be alike"
            )
        if on_progress is not None:
            on_progress(start + len(part), len(labels))
    return np.concatenate(images)


def _call(sampler: Sampler, labels: Int64Array, seed: int) -> npt.NDArray[Any]:
    """One batch as [n,H,W] or [n,H,W,3]; what the sampler prints goes to stderr."""
    n = len(labels)
    try:
        with torch.random.fork_rng(), torch.no_grad(), redirect_stdout(sys.stderr):
            torch.manual_seed(seed)
            made = sampler(n, labels.copy(), seed)
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"the sampler failed on {n} images: {type(error).__name__}: {reason}"
        ) from error
    with explained("what the sampler returned is no array of images"):
        if isinstance(made, tuple) and len(made) == 2 and np.array_equal(_array(made[1]), labels):
            made = made[0]  # (images, labels), as many write it
        array = _array(made)
    if array.ndim == 4 and array.shape[1] in (1, 3) and array.shape[3] not in (1, 3):
        array = array.transpose(0, 2, 3, 1)
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    colours = array.ndim == 4 and array.shape[3] == 3
    if array.shape[:1] != (n,) or not (array.ndim == 3 or colours) or array.dtype.kind not in "uf":
        raise InputError(
            f"the sampler was asked for {n} images and returned {array.dtype} {list(array.shape)}: "
            "return uint8 or floats [n,H,W], [n,H,W,3] or [n,C,H,W]"
        )
    return array


def _array(value: Any) -> npt.NDArray[Any]:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.float() if value.dtype == torch.bfloat16 else value
    return np.asarray(value)


def _as_uint8(images: npt.NDArray[Any], value_range: str) -> UInt8Array:
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    low = -1.0 if value_range == "signed" else 0.0
    least, most = float(images.min()), float(images.max())
    wrong = images.dtype.kind != "f" or not np.isfinite([least, most]).all()
    slack = _SLACK * (1 - low)
    if wrong or least < low - slack or most > 1 + slack:
        raise InputError(
            f"the sampler returned {images.dtype} values from {least:g} to {most:g}: return uint8, "
            "or floats in 0…1 or −1…1 (--range unit or signed says which)"
        )
    unit = (np.clip(images.astype(np.float64), low, 1) - low) / (1 - low)
    return np.rint(255 * unit).astype(np.uint8)
