"""MLflow on PostgreSQL: a database of Debian's packages, a tracking server before it, an outage."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import MLFLOW_SETTINGS, free_port, serving

from ensgan.errors import InputError, StoreError
from ensgan.store import MLflowStore, open_store, opening
from ensgan.store.opening import with_driver

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a PostgreSQL server of the tests' own, on a loopback port."""
    pytest.importorskip("psycopg2")
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not places:
        pytest.skip("PostgreSQL's server is not installed: apt-get install postgresql")
    folder = tmp_path_factory.mktemp("postgres")
    data, port = folder / "data", free_port()
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        as_user = ["runuser", "-u", "postgres", "--"]
        shutil.chown(folder, "postgres")
        for above in (folder, *folder.parents[:3]):
            if (
                above.owner() == "root"
                and above.parts[:2] == ("/", "tmp")
                and above != Path("/tmp")
            ):
                above.chmod(0o755)
    tool = str(places[-1])
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -c fsync=off"

    def run(*command: str) -> None:
        subprocess.run([*as_user, *command], check=True, capture_output=True, cwd="/")

    run(f"{tool}/initdb", "-D", str(data), "-U", "ensgan", "--auth=trust")
    start = (f"{tool}/pg_ctl", "-D", str(data), "-o", options, "-l", str(folder / "log"), "-w")
    run(*start, "start")
    try:
        run(f"{tool}/createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "ensgan", "mlflow")
        yield f"postgresql://ensgan@127.0.0.1:{port}/mlflow"
    finally:
        run(f"{tool}/pg_ctl", "-D", str(data), "-m", "immediate", "stop")


def record(uri: str, folder: Path) -> str:
    """A sweep with a GAN and an ensemble folder, all written and read back."""
    store = open_store(uri, folder)
    run_id = store.create_run("s", kind="sweep", params={"dataset": "phantom", "members": 2})
    child = store.create_run("SNGAN", kind="gan", parent=run_id)
    store.log_history(child, [(step, {"intra_d": step / 10}) for step in range(5)])
    (folder / "ensemble").mkdir(parents=True, exist_ok=True)
    (folder / "ensemble" / "ensemble.json").write_text("{}")
    store.log_folder(run_id, folder / "ensemble", "ensemble")
    store.log_metrics(run_id, {"intra_d": 0.7})
    store.finish(run_id)
    fresh = open_store(uri, folder)
    assert [run.run_id for run in fresh.find()] == [run_id]
    assert fresh.children(run_id)[0].metrics == {"intra_d": 0.4}
    assert fresh.read(run_id, "ensemble/ensemble.json") == b"{}"
    assert (fresh.fetch(run_id, "ensemble", folder / "out") / "ensemble.json").is_file()
    assert isinstance(fresh, MLflowStore)
    fresh._connection.client().delete_run(run_id)
    return run_id


def test_postgres_directly(database: str, tmp_path: Path) -> None:
    record(database, tmp_path)


def test_a_server_before_postgres(database: str, tmp_path: Path) -> None:
    port = free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port),
        *("--backend-store-uri", with_driver(database), "--workers", "1"),
        *("--artifacts-destination", tmp_path / "files", "--serve-artifacts"),
    ]
    address = f"http://127.0.0.1:{port}"
    with serving(command, f"{address}/health", tmp_path, **MLFLOW_SETTINGS):
        record(address, tmp_path / "client")
    with pytest.raises(StoreError, match="check that it is running"):
        open_store(address).find()


def test_a_database_address_names_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"psycopg2"}
    monkeypatch.setattr(opening, "find_spec", lambda name: name in installed or None)
    assert opening.with_driver("postgresql://u@h/d") == "postgresql+psycopg2://u@h/d"
    for kept in ("postgresql+pg8000://u@h/d", "sqlite:///x", "http://127.0.0.1:5000"):
        assert opening.with_driver(kept) == kept
    installed.clear()
    with pytest.raises(InputError, match=r"pip install 'ensgan\[postgres\]'"):
        open_store("postgresql://u@h/d")
