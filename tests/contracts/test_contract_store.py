"""What every run store does, whatever keeps the runs."""

from __future__ import annotations

import math
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import pytest
from memory_store import MemoryStore
from servers import MLFLOW_SETTINGS, free_port, serving

from ensgan.errors import InputError, StoreError
from ensgan.store import STORES, MLflowStore, RunStore, StoreKind, open_store, sort_runs
from ensgan.store.mlflow import server_command

SLOW = pytest.mark.slow


def through_client(store: MLflowStore) -> MLflowStore:
    """The same store, made to read as it reads from a server."""
    store._connection.database = None
    return store


def delete_run(store: RunStore, run_id: str) -> None:
    assert isinstance(store, MLflowStore)
    store._connection.client().delete_run(run_id)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server on a loopback port, keeping files for its clients."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    open_store(storage=folder).prepare()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--workers", "1"),
        *("--artifacts-destination", folder / "files", "--serve-artifacts"),
    ]
    address = f"http://127.0.0.1:{port}"
    with serving(command, f"{address}/health", folder, **MLFLOW_SETTINGS):
        yield address


LOCAL = [kind.name for kind in STORES if kind.local_address is not None]


@pytest.fixture(params=[*LOCAL, "in memory", "client", pytest.param("server", marks=SLOW)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> RunStore:
    """Every registered store that needs no server, the tests' own, and MLflow in two other ways."""
    if request.param == "in memory":
        return MemoryStore()
    if request.param == "server":
        uri = request.getfixturevalue("server")
        for old in open_store(uri).find() + open_store(uri).find(kind="gan"):
            delete_run(open_store(uri), old.run_id)
        # Every test its own experiment: the server decides where an experiment's files go.
        return MLflowStore(uri, f"test {request.node.name}")
    shutil.copyfile(request.getfixturevalue("blank_database"), tmp_path / "mlflow.db")
    if request.param == "client":
        database = f"sqlite:///{tmp_path}/mlflow.db"
        return through_client(MLflowStore(database, "mine", tmp_path / "artifacts"))
    address = STORES.get(request.param).local_address
    assert address is not None
    return open_store(address(tmp_path), tmp_path, "mine")


def test_a_run_comes_back_as_it_was_recorded(store: RunStore) -> None:
    before = datetime.now(timezone.utc) - timedelta(seconds=1)
    run_id = store.create_run(
        "nano",
        kind="sweep",
        params={"dataset": "phantom", "members": 6},
        tags={"ensgan.dataset": "phantom"},
    )
    store.log_metrics(run_id, {"intra_d": 0.75})
    store.set_tags(run_id, {"ensgan.selected": "SNGAN@10,SAGAN@20", "mlflow.note.content": "x"})
    store.log_dataset(run_id, name="phantom", digest="ab" * 32, source="", sizes={"train": 3})
    assert store.get(run_id).status == "running"
    store.finish(run_id)
    record = store.get(run_id)
    assert (record.run_id, record.name, record.kind) == (run_id, "nano", "sweep")
    assert record.status == "finished"
    assert record.parent is None
    assert record.params == {"dataset": "phantom", "members": "6"}
    assert record.metrics == {"intra_d": 0.75}
    assert record.tags == {
        "ensgan.kind": "sweep",
        "ensgan.dataset": "phantom",
        "ensgan.selected": "SNGAN@10,SAGAN@20",
    }
    assert before < record.started < datetime.now(timezone.utc) + timedelta(seconds=1)


def test_the_last_step_of_a_metric_is_its_value(store: RunStore) -> None:
    run_id = store.create_run("g", kind="gan")
    store.log_history(run_id, [(20, {"d": 2.0, "g": 5.0}), (10, {"d": 1.0}), (30, {"g": 7.0})])
    assert store.get(run_id).metrics == {"d": 2.0, "g": 7.0}


def test_many_rows_parameters_and_a_long_value(store: RunStore) -> None:
    run_id = store.create_run(
        "g", kind="gan", params={**{f"p{i}": i for i in range(150)}, "note": "x" * 5000}
    )
    store.log_history(run_id, [(step, {"a": step, "b": -step}) for step in range(700)])
    record = store.get(run_id)
    assert record.metrics == {"a": 699, "b": -699}
    assert len(record.params) == 151
    assert record.params["note"] == "x" * 5000


def test_a_metric_that_is_no_number_is_kept_and_written_as_null(store: RunStore) -> None:
    run_id = store.create_run("g", kind="gan")
    store.log_metrics(run_id, {"loss": float("nan"), "d": 1.0})
    record = store.get(run_id)
    assert math.isnan(record.metrics["loss"])
    assert record.to_json()["metrics"] == {"loss": None, "d": 1.0}


def test_children_belong_to_their_parent_oldest_first(store: RunStore) -> None:
    parent = store.create_run("sweep", kind="sweep")
    other = store.create_run("sweep", kind="sweep")
    names = ["SNGAN", "ACGAN", "SAGAN"]
    for name in names:
        store.create_run(name, kind="gan", parent=parent)
    assert [record.name for record in store.children(parent)] == names
    assert {record.parent for record in store.children(parent)} == {parent}
    assert store.children(other) == ()


def test_find_filters_orders_and_limits(store: RunStore) -> None:
    made = {}
    for name, dataset, score, members in [
        ("a", "phantom", 0.5, 9),
        ("b", "breast", 0.9, 10),
        ("c", "phantom", 0.7, 100),
        ("d", "phantom", None, 2),
    ]:
        made[name] = store.create_run(
            name, kind="sweep", params={"dataset": dataset, "members": members}
        )
        if score is not None:
            store.log_metrics(made[name], {"intra_d": score})
    store.create_run("child", kind="gan", parent=made["a"])

    def names(order: str) -> str:
        return "".join(record.name for record in sort_runs(store.find(), order))

    assert sorted(names("started")) == ["a", "b", "c", "d"]
    assert [record.name for record in store.find()] == list(names("-started"))
    assert names("-intra_d") == "bcad"
    assert names("intra_d") == "acbd"
    assert names("-members") == "cbad"
    assert [record.name for record in store.find("gan")] == ["child"]
    assert store.find('it\'s\\ "none"') == ()


def test_files_and_folders_come_back_whole(store: RunStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "members").mkdir(parents=True)
    (source / "ensemble.json").write_text("{}")
    (source / "members" / "SNGAN@10.safetensors").write_bytes(bytes(1000))
    run_id = store.create_run("s", kind="sweep")
    store.log_folder(run_id, source, "ensemble")
    store.log_file(run_id, source / "ensemble.json")
    store.log_file(run_id, source / "ensemble.json", "front")
    assert store.files(run_id) == {
        "ensemble.json": 2,
        "ensemble/ensemble.json": 2,
        "ensemble/members/SNGAN@10.safetensors": 1000,
        "front/ensemble.json": 2,
    }
    assert store.read(run_id, "ensemble.json") == b"{}"
    assert store.read(run_id, "ensemble/members/SNGAN@10.safetensors") == bytes(1000)
    for absent in ("front", "front/none", "none/x"):
        with pytest.raises(InputError, match="has no file"):
            store.read(run_id, absent)
    for outside in ("../x", "/etc/passwd", "front/../../x"):
        with pytest.raises(InputError, match="cannot name"):
            store.read(run_id, outside)
    assert ("/artifacts/front/x?" in store.page(run_id, "front/x")) == (store.uri != "memory:")
    fetched = store.fetch(run_id, "ensemble", tmp_path / "new" / "here")
    assert fetched == tmp_path / "new" / "here"
    found = {path.relative_to(fetched).as_posix() for path in fetched.rglob("*") if path.is_file()}
    assert found == {"ensemble.json", "members/SNGAN@10.safetensors"}
    assert (fetched / "members" / "SNGAN@10.safetensors").read_bytes() == bytes(1000)


def test_fetching_says_what_is_wrong(store: RunStore, tmp_path: Path) -> None:
    run_id = store.create_run("s", kind="sweep")
    (tmp_path / "a.txt").write_text("a")
    store.log_file(run_id, tmp_path / "a.txt", "front")
    with pytest.raises(InputError, match="has no 'ensemble' folder; it has front"):
        store.fetch(run_id, "ensemble", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        store.fetch(run_id, "front", tmp_path / "used")
    assert (tmp_path / "used" / "file").read_text() == "mine"
    for folder in ("../front", "/etc", "a/../../b", "", "."):
        with pytest.raises(InputError, match="cannot name a folder"):
            store.fetch(run_id, folder, tmp_path / "out")


def test_sending_what_is_not_there_is_refused(store: RunStore, tmp_path: Path) -> None:
    run_id = store.create_run("s", kind="sweep")
    with pytest.raises(StoreError, match="no such file"):
        store.log_file(run_id, tmp_path / "absent")
    with pytest.raises(StoreError, match="no such folder"):
        store.log_folder(run_id, tmp_path / "absent", "x")


@pytest.mark.parametrize("run_id", ["0" * 32, "nonsense", "../../etc"])
def test_an_unknown_run_is_an_input_error_with_a_remedy(store: RunStore, run_id: str) -> None:
    reading: list[Callable[[], object]] = [
        lambda: store.get(run_id),
        lambda: store.children(run_id),
        lambda: store.files(run_id),
        lambda: store.fetch(run_id, "ensemble", Path("never")),
        lambda: store.log_metrics(run_id, {"a": 1}),
        lambda: store.create_run("child", kind="gan", parent=run_id),
    ]
    for read in reading:
        with pytest.raises(InputError, match="'ensgan runs' lists") as caught:
            read()
        assert run_id in str(caught.value)


def test_bad_names_are_refused(store: RunStore) -> None:
    run_id = store.create_run("s", kind="sweep")
    with pytest.raises(InputError, match="cannot name a metric"):
        store.log_metrics(run_id, {"a;b": 1.0})
    with pytest.raises(InputError, match="cannot name a parameter"):
        store.create_run("s", kind="sweep", params={"": 1})
    with pytest.raises(InputError, match="is not a run status"):
        store.finish(run_id, "done")  # type: ignore[arg-type]


def test_odd_text_survives(store: RunStore) -> None:
    name = "<script>alert('1')</script> ü \"quoted\" 100%"
    run_id = store.create_run(name, kind="sweep", params={"text": name}, tags={"t": name})
    record = store.get(run_id)
    assert (record.name, record.params["text"], record.tags["t"]) == (name, name, name)


def test_a_killed_sweep_can_be_taken_up_again(store: RunStore) -> None:
    run_id = store.create_run("s", kind="sweep")
    store.finish(run_id, "killed")
    assert store.get(run_id).status == "killed"
    store.log_metrics(run_id, {"a": 1.0})
    store.finish(run_id)
    assert store.get(run_id).status == "finished"


def test_reading_an_absent_database_makes_nothing(tmp_path: Path) -> None:
    store = open_store(storage=tmp_path / "runs")
    assert store.find() == ()
    with pytest.raises(InputError, match="no run"):
        store.get("0" * 32)
    with pytest.raises(InputError, match="no run"):
        store.files("0" * 32)
    assert not (tmp_path / "runs").exists()


def test_two_threads_that_prepare_make_one_database(blank_database: Path, tmp_path: Path) -> None:
    shutil.copyfile(blank_database, tmp_path / "mlflow.db")
    store = MLflowStore(f"sqlite:///{tmp_path}/mlflow.db", "mine", tmp_path / "artifacts")
    threads = [threading.Thread(target=store.prepare) for _ in range(4)]
    for thread in threads:
        thread.start()
    run_id = store.create_run("s", kind="sweep")
    for thread in threads:
        thread.join()
    assert store.get(run_id).name == "s"


def test_models_are_versions_of_runs_with_aliases(store: RunStore) -> None:
    first, second = (store.create_run(name, kind="sweep") for name in "ab")
    assert store.registered("none", alias="champion") is None
    assert store.register(first, "model", "champion") == 1
    assert store.register(second, "model", "champion") == 2
    assert store.register(first, "model", "older") == 1, "a registered run keeps its version"
    assert store.registered("model", alias="champion") == second
    assert store.registered("model", alias="older") == first
    assert store.registered("model", version="2") == second
    assert store.registered("model", version="3") is None
    assert store.registered("model", alias="none") is None
    with pytest.raises(InputError, match="'ensgan runs' lists"):
        store.register("0" * 32, "model", "champion")


def test_credentials_of_an_address_are_not_recorded(store: RunStore) -> None:
    address = "http://user:SECRET@host/?token=SECRET"
    run_id = store.create_run("s", kind="sweep", params={"track.uri": address})
    store.log_params(run_id, {"other": address})
    store.set_tags(run_id, {"command": f"sweep --uri {address}"})
    record = store.get(run_id)
    assert "SECRET" not in str(record)
    assert record.params["track.uri"] == "http://***@host/?***"


def test_a_new_store_is_one_class_and_one_registered_line(tmp_path: Path) -> None:
    class Listed(MemoryStore):
        uri = "listed:here"

    STORES.register(StoreKind("listed", lambda address, storage, experiment: Listed()))
    try:
        assert open_store("listed:here", tmp_path).uri == "listed:here"
        with pytest.raises(InputError, match="has no pages"):
            open_store("listed:here").serve_pages(5000, print)
        with pytest.raises(InputError, match=r"it may begin with .*listed"):
            open_store("unlisted:here")
    finally:
        STORES.forget(["listed"])


def test_the_pages_are_for_this_machine_only(tmp_path: Path) -> None:
    command = server_command(f"sqlite:///{tmp_path}/mlflow.db", tmp_path, 5123)
    options = dict(pairwise(command))
    assert options["--host"] == "127.0.0.1"
    assert options["--allowed-hosts"] == "localhost:5123,127.0.0.1:5123"
    assert options["--cors-allowed-origins"].split(",") == [
        "http://localhost:5123",
        "http://127.0.0.1:5123",
    ]
    assert "--disable-security-middleware" not in command and "*" not in " ".join(command)
