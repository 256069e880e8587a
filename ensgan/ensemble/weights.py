"""Weight files: their headers, read before a tensor of them is used, and their numbers.

The safetensors library reads the headers, here and when a member is opened, so that both agree.
What it tolerates and other readers may not (names that occur twice, further keys) is refused first.
Checks from outside the house import this module: it keeps its name.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open

from ensgan.errors import DataError, IntegrityError
from ensgan.files import parse_json

_LONGEST_HEADER: Final = 8 << 20
_DISGUISED: Final = (b"PK", *(bytes([0x80, version]) for version in range(2, 6)))
"""How zip archives and pickles begin."""
_KEYS: Final = {"dtype", "shape", "data_offsets"}
_FLOATS: Final = ("F64", "F32", "F16")


class TensorInfo(BaseModel):
    """Type (safetensors' name, e.g. ``F32``) and shape of a stored tensor."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    dtype: str
    # JSON has no tuples; the sizes themselves must be whole numbers.
    shape: tuple[int, ...] = Field(strict=False)

    @property
    def size(self) -> int:
        """How many numbers the tensor holds."""
        return math.prod(self.shape)


def read_tensor_infos(path: Path) -> dict[str, TensorInfo]:
    """Names, types and shapes of the tensors in a safetensors file, from its header alone.

    Raises:
        IntegrityError: the file is absent, no safetensors file, or its header is too long, lies
            about the file, or lists overlapping tensors.
    """
    try:
        _refuse_odd_header(path)
        with safe_open(path, framework="numpy") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
            return {
                name: TensorInfo(dtype=part.get_dtype(), shape=tuple(part.get_shape()))
                for name, part in slices.items()
            }
    except OSError as error:
        raise IntegrityError(f"{path} cannot be read: {error.strerror or error}") from error
    except (SafetensorError, DataError) as error:
        raise IntegrityError(f"{path.name} cannot be read as safetensors: {error}") from error


def refuse_non_finite(path: Path, infos: Mapping[str, TensorInfo]) -> None:
    """Make sure that all floats in a weight file are finite: others make black images.

    Raises:
        IntegrityError: naming the first tensor that holds others.
    """
    with safe_open(path, framework="numpy") as opened, np.errstate(all="ignore"):
        for name, info in infos.items():
            if info.dtype in _FLOATS:
                values = opened.get_tensor(name)
                # A sum is finite unless a value is not, or it overflows: rarely a second look.
                if not (np.isfinite(values.sum()) or np.isfinite(values).all()):
                    raise IntegrityError(
                        f"{path.name} holds values that are not finite (NaN or infinite) in "
                        f"tensor '{name[:80]}': its training had failed, leave it out"
                    )


def _refuse_odd_header(path: Path) -> None:
    with path.open("rb") as stream:
        start, size = stream.read(8), path.stat().st_size
        if start.startswith(_DISGUISED):
            raise IntegrityError(
                f"{path.name} is a pickle or zip archive, not safetensors: it stays closed"
            )
        if len(start) < 8:
            raise IntegrityError(
                f"{path.name} is not a safetensors file: it has only {len(start)} bytes"
            )
        (length,) = struct.unpack("<Q", start)
        if length > min(_LONGEST_HEADER, size - 8):
            raise IntegrityError(
                f"{path.name} announces a header of {length} bytes, more than the file holds or "
                f"the {_LONGEST_HEADER} allowed"
            )
        header = parse_json(stream.read(length), "its header")
    for name, entry in header.items() if isinstance(header, dict) else ():
        if name != "__metadata__" and (not isinstance(entry, dict) or set(entry) != _KEYS):
            raise IntegrityError(
                f"{path.name} describes tensor '{name[:80]}' wrongly in its header"
            )
