"""Weight files are examined before a tensor is used: pickles, archives, lying headers."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tampering import SNGAN, refused, rewrite

from ensgan.ensemble.weights import read_tensor_infos
from ensgan.errors import IntegrityError


def test_a_pickle_disguised_as_safetensors(folder: Path) -> None:
    (folder / SNGAN).write_bytes(pickle.dumps({"weight": [1, 2, 3]}, protocol=4))
    rewrite(folder, lambda value: None)
    refused(folder, "is a pickle or zip archive")


def test_a_zip_disguised_as_safetensors(folder: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("../evil", "x")
    (folder / SNGAN).write_bytes(stream.getvalue())
    rewrite(folder, lambda value: None)
    refused(folder, "is a pickle or zip archive")


@pytest.mark.parametrize("length", [2**63, 2**40, 100 << 20])
def test_an_oversized_header(folder: Path, length: int) -> None:
    (folder / SNGAN).write_bytes(struct.pack("<Q", length) + b"{}")
    rewrite(folder, lambda value: None)
    refused(folder, "announces a header of")


def header_file(path: Path, header: Any, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


TENSOR = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    "header",
    [
        b"[1]",
        b"{",
        b"[" * 100_000,
        b'{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},'
        b'"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}',
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
        {"a": {"dtype": "OBJ", "shape": [1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}},
        {"a": {"dtype": "F32", "shape": [2**60], "data_offsets": [0, 2**62]}},
        {"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], "code": "os"}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
        {
            "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
            "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        },
        {},
        {"a": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}},
        b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        {"a": {**TENSOR}, "__metadata__": {"x": [1]}},
        {"a": {**TENSOR}, "__metadata__": [1]},
        {"a": {**TENSOR}, "__metadata__": {"x": float("nan")}},
        b"\xef\xbb\xbf" + json.dumps({"a": TENSOR}).encode(),
    ],
    ids=lambda header: str(header)[:60],
)
def test_lying_headers(tmp_path: Path, header: Any) -> None:
    with pytest.raises(IntegrityError, match=r"x\.safetensors"):
        read_tensor_infos(header_file(tmp_path / "x.safetensors", header, bytes(4)))


def test_a_header_read_rightly(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"a": np.zeros((2, 3), np.float32), "b": np.zeros(5, np.int64)}, tmp_path / "x")
    infos = read_tensor_infos(tmp_path / "x")
    assert {name: (info.dtype, info.shape) for name, info in infos.items()} == {
        "a": ("F32", (2, 3)),
        "b": ("I64", (5,)),
    }


@given(st.binary(max_size=300))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_crash_the_reader(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    try:
        read_tensor_infos(tmp_path / "x")
    except IntegrityError:
        return
    assert struct.unpack("<Q", content[:8])[0] <= len(content) - 8


def test_what_verify_takes_the_library_takes_too(folder: Path) -> None:
    """Metadata that safetensors refuses: said when the ensemble is opened, not when it is used."""
    content = (folder / SNGAN).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = {"x": [1]}
    header_file(folder / SNGAN, header, content[8 + length :])
    rewrite(folder, lambda value: None)
    refused(folder, "SNGAN@20.safetensors cannot be read as safetensors: .*expected a string")
