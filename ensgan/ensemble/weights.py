"""Weight files: safetensors, examined before a single tensor is made.

The header of a safetensors file is JSON that says where each tensor lies. It is read here with
limits, so that a damaged or hostile file is refused with a sentence instead of exhausting memory.
Source of the format: the safetensors specification.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from ensgan.errors import IntegrityError

_LONGEST_HEADER: Final = 8 << 20
_BYTES: Final[Mapping[str, int]] = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}


@dataclass(frozen=True)
class TensorInfo:
    """Type (safetensors' name, e.g. ``F32``) and shape of a stored tensor."""

    dtype: str
    shape: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """As the manifest holds it."""
        return {"dtype": self.dtype, "shape": list(self.shape)}

    @property
    def nbytes(self) -> int:
        """Bytes that the tensor occupies."""
        return _BYTES[self.dtype] * math.prod(self.shape)


def read_tensor_infos(path: Path) -> dict[str, TensorInfo]:
    """Names, types and shapes of the tensors in a safetensors file, from its header alone.

    Raises:
        IntegrityError: the file is absent, no safetensors file, or its header is too long, lies
            about the file, or lists overlapping tensors.
    """
    try:
        with path.open("rb") as stream:
            return _examine(stream, path.name, path.stat().st_size)
    except OSError as error:
        raise IntegrityError(f"{path} cannot be read: {error.strerror or error}") from error


def _examine(stream: BinaryIO, name: str, size: int) -> dict[str, TensorInfo]:
    start = stream.read(8)
    if start[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05") or start[:2] == b"PK":
        raise IntegrityError(f"{name} is a pickle or zip archive, not safetensors: it stays closed")
    if len(start) < 8:
        raise IntegrityError(f"{name} is not a safetensors file: it has only {len(start)} bytes")
    (length,) = struct.unpack("<Q", start)
    if length > min(_LONGEST_HEADER, size - 8):
        raise IntegrityError(
            f"{name} announces a header of {length} bytes, more than the file holds or the "
            f"{_LONGEST_HEADER} allowed"
        )
    try:
        header = json.loads(stream.read(length), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{name} has no readable safetensors header: {error}") from error
    if not isinstance(header, dict):
        raise IntegrityError(f"{name} has no readable safetensors header: not a mapping")
    header.pop("__metadata__", None)
    spans = {key: _span(name, key, entry) for key, entry in header.items()}
    _check_spans(name, spans, size - 8 - length)
    return {key: info for key, (info, _, _) in spans.items()}


def _span(name: str, key: str, entry: Any) -> tuple[TensorInfo, int, int]:
    """One header entry: what it is, first byte, byte after the last."""
    wrong = IntegrityError(f"{name} describes tensor '{key[:80]}' wrongly in its header")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise wrong
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    numbers = isinstance(shape, list) and isinstance(offsets, list) and len(offsets) == 2
    if dtype not in _BYTES or not numbers or len(shape) > 8:
        raise wrong
    if not all(type(value) is int and 0 <= value < 2**48 for value in (*shape, *offsets)):
        raise wrong
    info = TensorInfo(dtype, tuple(shape))
    if offsets[1] - offsets[0] != info.nbytes:
        raise wrong
    return info, offsets[0], offsets[1]


def _check_spans(name: str, spans: Mapping[str, tuple[TensorInfo, int, int]], size: int) -> None:
    position = 0
    for _, start, stop in sorted(spans.values(), key=lambda span: span[1:]):
        if start != position:
            raise IntegrityError(f"{name} has overlapping tensors or gaps between them")
        position = stop
    if position != size:
        raise IntegrityError(
            f"{name} holds {size} bytes of tensors where its header says {position}"
        )


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name occurs twice")
    return values
