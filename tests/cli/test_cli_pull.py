from __future__ import annotations

import errno
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from commands import as_json, call

from ensgan.ensemble import TAG_DIGEST, artifact, load_ensemble
from ensgan.errors import InputError, IntegrityError, StoreError
from ensgan.store import find_run, open_store
from ensgan.types import Samples


def test_pull_then_sample_without_a_store(storage: Path, run_id: str, tmp_path: Path) -> None:
    pulled = as_json("pull", run_id, "-o", tmp_path / "out", "--storage", storage)
    assert pulled["members"] == {"A@1": 0.5, "B@2": 0.5}
    as_json("sample", tmp_path / "out", "-n", 64, "--seed", 1, "-o", tmp_path / "a.npz")
    as_json("sample", tmp_path / "out", "-n", 10, "--seed", 1, "-o", tmp_path / "b.npz")
    as_json(
        *("sample", run_id, "-n", 64, "--seed", 1, "-o", tmp_path / "c.npz"),
        *("--storage", storage),
    )
    many = Samples.load(tmp_path / "a.npz")
    few = Samples.load(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "c.npz").read_bytes()
    assert np.array_equal(many.images[:10], few.images)
    assert many.member_names == ("A@1", "B@2")
    assert many.key == load_ensemble(run_id, storage=storage).sample(64, seed=1).key


def test_a_folder_needs_no_store(banks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever address is set, even one that nothing could be kept at."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "no-address")
    assert len(load_ensemble(banks).sample(3)) == 3
    assert as_json("verify", banks)["verified"] is True
    with pytest.raises(InputError, match="'no-address' is no tracking address"):
        load_ensemble("0" * 32)


def test_verify(storage: Path, run_id: str, banks: Path, tmp_path: Path) -> None:
    assert as_json("verify", banks)["verified"] is True
    value = as_json("verify", run_id, "--storage", storage)
    assert value == {
        "verified": True,
        "files": 4,
        "bytes": value["bytes"],
        "members": ["A@1", "B@2"],
        "unlisted": [],
    }


def test_an_artifact_swapped_in_the_store_is_noticed(
    storage: Path, run_id: str, banks: Path, tmp_path: Path
) -> None:
    store = open_store(storage=storage)
    changed = store.create_run("swapped", kind="test")
    store.log_folder(changed, banks, "ensemble")
    store.set_tags(changed, {TAG_DIGEST: "0" * 64})
    with pytest.raises(IntegrityError, match="not the one that its sweep recorded"):
        call("pull", changed, "-o", tmp_path / "out", "--storage", storage)
    assert not (tmp_path / "out").exists()


def test_a_run_without_an_ensemble(storage: Path, tmp_path: Path) -> None:
    first = find_run(open_store(storage=storage), "first")
    with pytest.raises(InputError, match="has no 'ensemble' folder"):
        call("pull", first, "-o", tmp_path / "out", "--storage", storage)


def test_no_room_for_an_ensemble_is_one_sentence(
    storage: Path, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    monkeypatch.setattr(shutil, "copyfile", no_room)
    with pytest.raises(StoreError, match=r"^cannot write [^ ]*: File too large; make room, [^:]*$"):
        call("pull", run_id, "-o", tmp_path / "out", "--storage", storage)
    assert not list(tmp_path.glob("*out*"))


def test_processes_that_ask_at_once_fetch_once(
    storage: Path, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a cold cache, and for a run that does not say which ensemble it has."""
    shutil.copytree(storage, tmp_path / "runs", ignore=shutil.ignore_patterns("cache"))
    store = open_store(storage=tmp_path / "runs")
    untold = store.create_run("untold", kind="sweep")
    store.fetch(run_id, "ensemble", tmp_path / "pulled")
    store.log_folder(untold, tmp_path / "pulled", "ensemble")
    fetched = []
    fetch = artifact._fetch
    monkeypatch.setattr(
        artifact, "_fetch", lambda *given: (fetched.append(given), fetch(*given))[1]
    )

    def load(run: str) -> str:
        return load_ensemble(run, storage=tmp_path / "runs").sample(2, seed=1).key

    with ThreadPoolExecutor(6) as threads:
        keys = set(threads.map(load, [run_id, untold] * 6))
    assert len(keys) == 1 and len(fetched) == 2
    cached = tmp_path / "runs" / "cache" / "ensembles" / run_id
    (cached / "ensemble.json").write_text("damaged")
    assert load(run_id) in keys and len(fetched) == 3
    (cached / "notes.txt").write_text("mine")
    (cached / "ensemble.json").write_text("damaged")
    with pytest.raises(InputError, match="holds other files"):
        load(run_id)
    assert (cached / "notes.txt").read_text() == "mine"


def test_a_moved_storage_samples_the_same(storage: Path, run_id: str, tmp_path: Path) -> None:
    shutil.copytree(storage, tmp_path / "moved", ignore=shutil.ignore_patterns("cache"))
    for place in (storage, tmp_path / "moved"):
        as_json("sample", run_id, "-n", 4, "-o", tmp_path / f"{place.name}.npz", "--storage", place)
        as_json("pull", run_id, "-o", tmp_path / f"of-{place.name}", "--storage", place)
        assert as_json("verify", run_id, "--storage", place)["verified"] is True
    assert (tmp_path / "moved" / "cache" / "ensembles" / run_id / "ensemble.json").is_file()
