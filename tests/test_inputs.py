"""The gate for files from outside: regular files only, bounded before they are opened."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from ensgan.errors import DataError, InputError
from ensgan.files import map_array, read_npz, read_text
from ensgan.inputs import explained, kind, refuse, require_file, require_memory
from ensgan.store import open_store


def test_kinds_of_paths(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    kinds = {"file": "file", "link": "file", "loop": "absent", "pipe": "special", "": "folder"}
    kinds |= {"x" * 300: "absent", "a\0b": "absent", "file/below": "absent"}
    for name, expected in kinds.items():
        assert kind(tmp_path / name) == expected
    assert kind(Path("/dev/zero")) == "special"


def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.npz")
    start = time.monotonic()
    for path in (tmp_path / "p.npz", Path("/dev/zero")):
        for reader in (require_file, read_npz, map_array, read_text):
            with pytest.raises(DataError, match="is no plain file"):
                reader(path)
    assert time.monotonic() - start < 1


def test_archives_that_unpack_to_very_much_are_refused_before_they_do(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, real=np.zeros((600, 1024, 1024 // 2), np.uint8))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(DataError, match=r"would unpack from 0.3 MB to 0.3 GB: refused as a zip"):
        read_npz(path)


def test_a_single_array_is_no_archive_and_the_other_way(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(4.0))
    np.savez(tmp_path / "b.npz", a=np.arange(4.0))
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    with pytest.raises(DataError, match="is a single array"):
        read_npz(tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"is not an \.npy file"):
        map_array(tmp_path / "b.npz")
    np.testing.assert_array_equal(map_array(tmp_path / "a.npz"), np.arange(4.0))


def test_sparse_arrays_larger_than_the_memory_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.npy"
    np.lib.format.open_memmap(path, "w+", np.float64, (1 << 38,))  # 2 TB on paper
    with pytest.raises(DataError, match=r"needs 2199.0 GB of memory"):
        map_array(path)


@pytest.mark.parametrize("content", ["text", "runs", "patients"])
def test_a_database_of_another_program_is_no_store(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mine.db"
    if content == "text":
        path.write_text("years of work")
    else:
        with closing(sqlite3.connect(path)) as mine:
            mine.execute(f"CREATE TABLE {content} (id INT)")
    with pytest.raises(InputError, match=r"another program than MLflow|file is not a database"):
        open_store(f"sqlite:///{path}")
    for new in ("absent", "empty"):
        (tmp_path / "empty").touch()
        open_store(f"sqlite:///{tmp_path / new}")


def test_memory_and_text(tmp_path: Path) -> None:
    require_memory(1, "nothing")
    with pytest.raises(DataError, match=r"a lot needs 1000000000\.0 GB of memory but"):
        require_memory(1e18, "a lot")
    (tmp_path / "t").write_bytes(b"\xef\xbb\xbfa\n")
    assert read_text(tmp_path / "t") == "a\n"
    with pytest.raises(DataError, match="has more than the 2 bytes"):
        read_text(tmp_path / "t", 2)


def test_whatever_a_parser_raises_is_one_sentence() -> None:
    for error in (KeyError("x"), MemoryError(), RecursionError("deep"), ValueError("y\n" * 500)):
        with (
            pytest.raises(DataError, match=r"^cannot be read: .{1,160}$"),
            explained("cannot be read"),
        ):
            raise error
    with pytest.raises(DataError, match=r"^as it is$"), explained("cannot be read"):
        raise DataError("as it is")


def test_a_problem_with_a_long_value_is_said_in_a_line() -> None:
    with pytest.raises(DataError) as said:
        refuse("labels.csv", [f"a.png is in split '{'x' * 9000}': give train, val or test"])
    assert len(str(said.value)) < 300
    assert "a.png is in split" in str(said.value) and "give train, val or test" in str(said.value)
