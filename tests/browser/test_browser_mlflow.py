"""A recorded sweep in MLflow's pages, started by ``ensgan ui``, in a real browser."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from servers import free_port, serving
from tiny_sweep import tiny

pytestmark = pytest.mark.browser
NAME = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def sweep(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Storage and run ID of a real sweep, and beside it a run whose name is markup."""
    from ensgan.config import parse_spec
    from ensgan.launch.sweep import run_sweep
    from ensgan.store import open_store

    storage = tmp_path_factory.mktemp("storage")
    few = {"strategies": ["real", "selected"], "repeats": 2}
    spec = parse_spec(tiny(evaluate=few, train={"vary": {"learning_rate": [0.5, 1.0]}}))
    result = run_sweep(spec, storage=storage, address=None)
    store = open_store(storage=storage)
    evil = store.create_run(NAME, kind="sweep", params={"dataset": NAME}, tags={"ensgan.x": NAME})
    store.set_tags(evil, {"mlflow.note.content": NAME})
    store.finish(evil)
    assert result.run_id is not None
    return storage, result.run_id


@pytest.fixture(scope="module")
def ui(sweep: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of ``ensgan ui`` on a free port."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "ensgan", "ui", "--port", port, "--storage", sweep[0]]
    with serving(command, f"{address}/health", tmp_path_factory.mktemp("ui")):
        yield address


def test_the_printed_page_opens_on_the_runs_with_verdict_and_front(
    page: Any, ui: str, sweep: tuple[Path, str], screenshots: Path
) -> None:
    from ensgan.store import open_store

    store = open_store(storage=sweep[0])
    page.goto(f"{ui}/{store.list_page(sweep[1])}")
    page.get_by_text("tiny", exact=True).first.wait_for()
    page.wait_for_timeout(1000)
    page.screenshot(path=screenshots / "mlflow-landing.png")
    assert "/runs?" in page.url and "workflowType=machine_learning" in page.url
    # The runs themselves, not the page about traces of language models.
    assert page.get_by_role("link", name="tiny", exact=True).first.is_visible()
    for column in ("auc", "auc.real"):  # beside its run, without a choice of columns
        assert page.get_by_text(column, exact=True).first.is_visible()
    page.goto("about:blank")
    page.goto(f"{ui}/{store.page(sweep[1])}")
    page.get_by_text("a classifier trained on its images alone").wait_for()
    picture = "img[src*='front.png']"
    page.locator(picture).wait_for()
    page.wait_for_function(f'document.querySelector("{picture}").naturalWidth > 100')
    page.screenshot(path=screenshots / "mlflow-verdict.png")
    note = page.get_by_test_id("note-editor-preview-content")
    link = note.get_by_role("link", name="SNGAN", exact=True)
    page.goto(f"{ui}/{link.get_attribute('href')}")
    assert "workflowType=machine_learning" in page.url
    page.get_by_text("intra_d", exact=True).first.wait_for()
    page.screenshot(path=screenshots / "mlflow-child.png")


def run_page(ui: str, storage: Path, run_id: str, path: str = "") -> str:
    from ensgan.store import open_store

    page = open_store(storage=storage).page(run_id, path)
    return f"{ui}/{page}".replace("/artifacts/?", "?")


def test_the_runs_page_leads_to_the_report(
    page: Any, ui: str, sweep: tuple[Path, str], screenshots: Path
) -> None:
    page.goto(run_page(ui, *sweep).replace("?", "/artifacts?"))
    entries = [page.get_by_text(name, exact=True).first for name in ("0-report", "downstream")]
    entries[0].wait_for()
    page.screenshot(path=screenshots / "mlflow-artifacts.png")
    first, second = (entry.bounding_box()["y"] for entry in entries)
    assert first < second
    page.goto("about:blank")
    page.goto(run_page(ui, *sweep))
    link = page.get_by_role("link", name="Report", exact=True)
    link.wait_for()
    page.screenshot(path=screenshots / "mlflow-run.png")
    page.goto(f"{ui}/{link.get_attribute('href')}")
    report = page.frame_locator("iframe")
    report.get_by_role("heading", name="Pareto front").wait_for()
    # MLflow shows pages in a sandbox: the script inside still answers to the keyboard.
    report.locator("svg .point").first.focus()
    assert "Intra-d" in report.locator("#front-detail").inner_text()
    page.screenshot(path=screenshots / "mlflow-report.png")
    assert [problem for problem in page.problems if "request" not in problem] == []


@pytest.mark.parametrize(
    "path", ["front/front.png", "pool/overlap.png", "grids/selected.png"], ids=lambda path: path
)
def test_pictures_are_shown(
    page: Any, ui: str, sweep: tuple[Path, str], screenshots: Path, path: str
) -> None:
    page.goto(run_page(ui, *sweep, path))
    page.wait_for_function(
        "[...document.querySelectorAll('img')].some(i => i.src.startsWith('blob:')"
        " && i.naturalWidth > 100) || [...document.querySelectorAll('*')]"
        ".some(e => getComputedStyle(e).backgroundImage.includes('blob:'))"
    )
    page.wait_for_timeout(500)
    page.screenshot(path=screenshots / f"mlflow-{Path(path).stem}.png")


def test_the_downstream_table_is_shown(
    page: Any, ui: str, sweep: tuple[Path, str], screenshots: Path
) -> None:
    page.goto(run_page(ui, *sweep, "downstream/table.csv"))
    page.get_by_text("g_mean", exact=True).first.wait_for()
    page.screenshot(path=screenshots / "mlflow-downstream.png")


def test_the_interactive_front_is_shown(
    page: Any, ui: str, sweep: tuple[Path, str], screenshots: Path
) -> None:
    # A page of its own: MLflow does not follow when only the part after '#' changes.
    page.goto(run_page(ui, *sweep, "front/front.html"))
    front = page.frame_locator("iframe")
    front.locator("svg .point").first.wait_for()
    assert front.locator("svg .point").count() >= 2
    front.locator("svg .point").first.focus()
    assert "members: " in front.locator("#front-detail").inner_text()
    page.screenshot(path=screenshots / "mlflow-front-interactive.png")
    assert [problem for problem in page.problems if "request" not in problem] == []


def test_a_gans_grid_is_on_its_own_run(
    page: Any, ui: str, sweep: tuple[Path, str], screenshots: Path
) -> None:
    from ensgan.store import open_store

    gan = next(run for run in open_store(storage=sweep[0]).children(sweep[1]) if run.kind == "gan")
    path = f"grid-{gan.name}/{gan.name}.png"
    page.goto(run_page(ui, sweep[0], gan.run_id, path))
    page.get_by_text(f"{gan.name}.png").first.wait_for()
    page.wait_for_timeout(2000)
    page.screenshot(path=screenshots / "mlflow-gan-grid.png")


def test_parallel_coordinates_begin_with_what_was_varied(
    page: Any, ui: str, sweep: tuple[Path, str], screenshots: Path
) -> None:
    from ensgan.store import open_store

    store = open_store(storage=sweep[0])
    runs = [run.run_id for run in store.children(sweep[1]) if run.kind == "gan"]
    assert len(runs) == 4
    experiment = store.page(sweep[1], "").split("/")[2]
    query = f"runs={json.dumps(runs)}&experiments={json.dumps([experiment])}"
    page.goto(f"{ui}/#/compare-runs?{query}")
    plot = page.locator(".js-plotly-plot").first
    plot.get_by_text("config.learning_rate").wait_for()
    plot.get_by_text("config.gan").wait_for()
    page.screenshot(path=screenshots / "mlflow-parallel-coordinates.png")


def test_names_that_are_markup_do_not_run(
    page: Any, ui: str, sweep: tuple[Path, str], screenshots: Path
) -> None:
    from ensgan.store import open_store

    evil = next(run for run in open_store(storage=sweep[0]).find() if run.name == NAME)
    page.goto(run_page(ui, sweep[0], evil.run_id))
    page.get_by_text("onerror").first.wait_for()
    page.wait_for_timeout(1000)
    page.screenshot(path=screenshots / "mlflow-markup.png")
    assert [problem for problem in page.problems if "request" not in problem] == []


def test_other_host_names_are_refused(ui: str) -> None:
    """Against pages elsewhere that have their name point to this machine."""
    address = f"{ui}/api/2.0/mlflow/experiments/search?max_results=1"
    with urlopen(address, timeout=60) as answer:
        assert answer.status == 200
    with pytest.raises(HTTPError) as caught:
        urlopen(Request(address, headers={"Host": "evil.example"}), timeout=60)
    assert caught.value.code == 403
