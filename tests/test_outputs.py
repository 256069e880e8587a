"""Outputs are checked before any work; what a command did not write stays."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from ensgan.errors import DataError, InputError, StoreError
from ensgan.files import atomic_path, parse_json, read_bytes, read_json, write_bytes
from ensgan.outputs import claim_folder, claim_output, folder_in_one_step, one_at_a_time


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with an input, a link to it, a pipe, and a folder of inputs."""
    (tmp_path / "in.npz").write_text("input")
    (tmp_path / "link.npz").symlink_to("in.npz")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to-pipe").symlink_to("pipe")
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "real.npz").write_text("real")
    return tmp_path


@pytest.mark.parametrize("name", ["in.npz", "link.npz", "pool/../in.npz", "./in.npz"])
def test_an_output_is_no_input(place: Path, name: str) -> None:
    with pytest.raises(InputError, match="which this command has read too"):
        claim_output(place / name, inputs=[None, place / "in.npz"], force=True)
    with pytest.raises(InputError, match="which this command has written too"):
        claim_output(place / "new", outputs=[place / "pool" / ".." / "new"])


def test_files_of_a_folder_that_is_read_stay(place: Path) -> None:
    pool = place / "pool"
    with pytest.raises(InputError, match=r"is a file of .*pool, which this command reads"):
        claim_output(pool / "real.npz", inputs=[pool])
    claim_output(pool / "scores.npz", inputs=[pool])
    claim_output(pool / "real.npz", inputs=[pool], is_ours=lambda path: True)


@pytest.mark.parametrize("name", ["pipe", "to-pipe", "/dev/null"])
def test_devices_and_pipes_stay(place: Path, name: str) -> None:
    with pytest.raises(InputError, match="no plain file"):
        claim_output(place / name, force=True)
    with pytest.raises(StoreError, match="no plain file"), atomic_path(place / name):
        pass
    with pytest.raises(InputError, match="no folder"):
        claim_folder(place / name)
    assert (place / "to-pipe").is_symlink() and (place / "pipe").is_fifo()


def test_only_our_own_files_are_replaced(place: Path) -> None:
    ours = lambda path: path.read_text() == "ours"  # noqa: E731
    (place / "old").write_text("ours")
    claim_output(place / "old", is_ours=ours)
    (place / "old").write_text("theirs")
    with pytest.raises(InputError, match="exists already"):
        claim_output(place / "old", is_ours=ours)
    claim_output(place / "old", is_ours=ours, force=True)
    with pytest.raises(InputError, match="it is a folder"):
        claim_output(place / "pool")
    with pytest.raises(InputError, match="no folder that you may write to"):
        claim_output(place / "old" / "x")


def test_folders_keep_what_is_in_them(place: Path) -> None:
    for used in ("pool", "in.npz"):
        with pytest.raises(InputError, match="exists already"):
            claim_folder(place / used)
    with pytest.raises(InputError, match="holds other files"):
        claim_folder(place / "pool", is_ours=lambda path: False)
    claim_folder(place / "pool", is_ours=lambda path: True)
    (place / "linked").symlink_to("pool")
    with pytest.raises(InputError, match="is no folder"):
        claim_folder(place / "linked")
    with pytest.raises(InputError, match="this command reads"):
        claim_folder(place, inputs=[place / "pool"], is_ours=lambda path: True)
    (place / "empty").mkdir()
    assert claim_folder(place / "empty") == place / "empty"


def test_a_folder_appears_whole_or_not_at_all(place: Path) -> None:
    before = sorted(path.name for path in place.iterdir())
    with pytest.raises(RuntimeError), folder_in_one_step(place / "pool") as half:
        (half / "x").write_text("half")
        raise RuntimeError
    assert sorted(path.name for path in place.iterdir()) == before
    assert (place / "pool" / "real.npz").read_text() == "real"
    with folder_in_one_step(place / "pool") as made:
        (made / "x").write_text("new")
    assert [path.name for path in (place / "pool").iterdir()] == ["x"]
    assert sorted(path.name for path in place.iterdir()) == before


def test_a_folder_that_was_filled_meanwhile_stays(place: Path) -> None:
    (place / "empty").mkdir()
    for name in ("new", "empty"):
        with (
            pytest.raises(InputError, match="was filled by another program"),
            folder_in_one_step(place / name) as made,
        ):
            (made / "x").write_text("ours")
            (place / name).mkdir(exist_ok=True)
            (place / name / "theirs").write_text("theirs")
        assert [path.name for path in (place / name).iterdir()] == ["theirs"]


def test_a_link_stays_a_link(place: Path) -> None:
    write_bytes(place / "link.npz", b"new")
    assert (place / "link.npz").is_symlink() and (place / "in.npz").read_text() == "new"


def test_a_lock_lets_one_in_at_a_time(tmp_path: Path) -> None:
    inside = most = 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with one_at_a_time(tmp_path / "locks" / "x"):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' occurs twice"),
        ('{"a": NaN}', "NaN is no finite number"),
        ('{"a": -1e999}', "-1e999 is no finite number"),
        ("[" * 100_000, "recursion"),
        ("9" * 10_000, "digits"),
        ("{", "Expecting property name"),
        (b"\xff\xfe{}", "decode"),
    ],
)
def test_json_that_readers_would_take_differently_is_refused(
    text: str | bytes, reason: str
) -> None:
    with pytest.raises(DataError, match=f"x.json is not readable JSON: .*{reason}"):
        parse_json(text, "x.json")
    assert parse_json('{"a": [1, 2.5, null]}', "x") == {"a": [1, 2.5, None]}


def test_no_file_is_read_without_end(place: Path) -> None:
    with (place / "large.json").open("wb") as stream:
        stream.truncate(3 << 30)
    with pytest.raises(DataError, match="more than the 134217728 bytes"):
        read_json(place / "large.json")
    for endless in (Path("/dev/zero"), place / "pipe", place / "pool"):
        with pytest.raises(DataError, match="is no plain file"):
            read_json(endless)
    with pytest.raises(DataError, match="no such file"):
        read_bytes(place / "absent", 10)
