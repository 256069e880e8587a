"""Storage folders: their names and addresses, and that they can be moved, copied or split."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ensgan.errors import InputError
from ensgan.store import MLflowStore, open_store


def through_client(store: MLflowStore) -> MLflowStore:
    """The same store, made to read as it reads from a server."""
    store._connection.database = None
    return store


@pytest.fixture
def recorded(blank_database: Path, tmp_path: Path) -> tuple[Path, str]:
    """A storage folder with one run that has a file."""
    storage = tmp_path / "before"
    storage.mkdir()
    shutil.copyfile(blank_database, storage / "mlflow.db")
    (tmp_path / "card").mkdir()
    (tmp_path / "card" / "README.md").write_text("here")
    store = open_store(storage=storage)
    run_id = store.create_run("s", kind="sweep")
    store.log_folder(run_id, tmp_path / "card", "ensemble")
    return storage, run_id


@pytest.mark.parametrize("old", ["gone", "other content", "emptied"])
def test_a_storage_folder_can_be_moved(
    recorded: tuple[Path, str], tmp_path: Path, old: str
) -> None:
    """MLflow's database names absolute paths; the old place is neither read nor written."""
    before, run_id = recorded
    after = tmp_path / "after"
    shutil.copytree(before, after)
    if old == "other content":
        next(before.rglob("README.md")).write_text("another's")
    else:
        shutil.rmtree(before)
        if old == "emptied":
            before.mkdir()
    unchanged = {path: path.stat().st_mtime_ns for path in before.rglob("*")}

    moved = open_store(storage=after)
    assert moved.read(run_id, "ensemble/README.md") == b"here"
    assert list(moved.files(run_id)) == ["ensemble/README.md"]
    assert (moved.fetch(run_id, "ensemble", tmp_path / "out") / "README.md").read_text() == "here"
    moved.log_file(run_id, tmp_path / "card" / "README.md", "more")
    child = moved.create_run("child", kind="gan", parent=run_id)
    moved.log_folder(child, tmp_path / "card", "card")
    assert (after / "artifacts" / child / "artifacts" / "card" / "README.md").is_file()
    assert (after / "artifacts" / run_id / "artifacts" / "more" / "README.md").is_file()
    assert {path: path.stat().st_mtime_ns for path in before.rglob("*")} == unchanged

    # MLflow itself finds them too: its pages, its registry, runs that it starts.
    client = through_client(MLflowStore(moved.uri, "ensgan", after / "artifacts"))
    assert client.read(run_id, "ensemble/README.md") == b"here"
    plain = moved._connection.client()  # type: ignore[attr-defined]
    for run in (run_id, child):
        assert plain.get_run(run).info.artifact_uri.startswith(after.as_uri())


def test_a_copied_storage_and_its_original_live_beside_each_other(
    recorded: tuple[Path, str], tmp_path: Path
) -> None:
    before, run_id = recorded
    shutil.copytree(before, tmp_path / "after")
    (tmp_path / "note.txt").write_text("x")
    for storage in (tmp_path / "after", before):
        store = open_store(storage=storage)
        store.log_file(run_id, tmp_path / "note.txt", storage.name)
        assert list(store.files(run_id)) == sorted(
            ["ensemble/README.md", f"{storage.name}/note.txt"]
        )


def test_files_elsewhere_stay_where_mlflow_says(blank_database: Path, tmp_path: Path) -> None:
    """A database of others, whose files lie in another layout, is left as it is."""
    (tmp_path / "db").mkdir()
    shutil.copyfile(blank_database, tmp_path / "db" / "mlflow.db")
    store = open_store(f"sqlite:///{tmp_path}/db/mlflow.db")
    client = store._connection.client()  # type: ignore[attr-defined]
    location = (tmp_path / "elsewhere").as_uri()
    experiment = client.create_experiment("theirs", artifact_location=location)
    run_id = client.create_run(experiment, tags={"ensgan.kind": "sweep"}).info.run_id
    (tmp_path / "note.txt").write_text("x")
    store.log_file(run_id, tmp_path / "note.txt")
    assert (tmp_path / "elsewhere" / run_id / "artifacts" / "note.txt").is_file()
    fresh = open_store(store.uri)
    assert list(fresh.files(run_id)) == ["note.txt"]
    fresh.prepare()
    assert client.get_experiment(experiment).artifact_location == location


@pytest.mark.parametrize("sign", ["%", "?"])
def test_folders_that_database_addresses_cannot_name_are_refused(tmp_path: Path, sign: str) -> None:
    """SQLAlchemy would open another file: ``%41`` is A to it, and ``?`` ends the path."""
    with pytest.raises(InputError, match="means something else in the address"):
        open_store(storage=tmp_path / f"runs{sign}41")


@pytest.mark.parametrize("name", ["it's", 'a "b"', "a#b", "a b;c", "ü&d"])
def test_folders_of_any_other_name_hold_a_store(tmp_path: Path, name: str) -> None:
    store = open_store(storage=tmp_path / name)
    run_id = store.create_run("r", kind="sweep", params={})
    store.finish(run_id)
    assert [run.run_id for run in open_store(storage=tmp_path / name).find(kind="sweep")] == [
        run_id
    ]
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("address", ["http://[::1", "http://h:99999", "postgresql://u:p@[x/db"])
def test_addresses_that_are_none_are_refused(address: str) -> None:
    with pytest.raises(InputError, match="is no tracking address"):
        open_store(address)
