"""The report in a browser: it works offline, by keyboard and without scripts, and runs no names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from report_run import recorded

from ensgan.report.content import collect
from ensgan.report.page import render

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A report of a sweep whose names try to run scripts."""
    folder = tmp_path_factory.mktemp("report")
    store, run_id = recorded(folder)
    path = folder / "report.html"
    path.write_text(render(collect(store, run_id)), encoding="utf-8")
    return path.as_uri()


def test_it_opens_without_network_errors_or_foreign_scripts(
    page: Any, address: str, screenshots: Path
) -> None:
    page.goto(address)
    page.screenshot(path=screenshots / "report.png", full_page=True)
    assert "<script>alert" in page.title()  # the name is shown, as text
    assert page.locator("svg .point").count() == 2
    broken = "images => images.filter(i => !(i.complete && i.naturalWidth)).length"
    assert page.locator("img").evaluate_all(broken) == 0
    # Whatever got into the page, the policy would not let it run.
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=alert(1)>')")
    page.wait_for_timeout(200)
    assert not [problem for problem in page.problems if "error" not in problem]


def test_the_front_by_keyboard(page: Any, address: str, screenshots: Path) -> None:
    page.goto(address)
    detail = page.locator("#front-detail")
    assert detail.inner_text().startswith("Selected, G*. Intra-d 0.9000")
    page.locator("svg .point.chosen").focus()
    page.keyboard.press("ArrowLeft")
    assert detail.inner_text().startswith("Intra-d 0.7000, Inter-d 0.1000, 2 members: A@10, B@20")
    assert page.evaluate("document.activeElement.dataset.row") == "front-1"
    assert page.locator("tr#front-1").get_attribute("class") == "active"
    page.locator("#front").screenshot(path=screenshots / "report-front-keyboard.png")
    page.keyboard.press("End")
    assert detail.inner_text().startswith("Selected, G*")
    # One stop of the Tab key for the whole front, as for any group of marks.
    assert page.locator('svg .point[tabindex="0"]').count() == 1


def test_the_front_without_scripts(browser: Any, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator("svg .point").count() == 2
    assert "2 members: A@10, B@20" in (page.locator("svg .point title").first.text_content() or "")
    page.locator("#front details summary").first.click()
    assert page.locator("tr#front-2").is_visible()
    context.close()


def test_a_narrow_screen_does_not_scroll_sideways(page: Any, address: str) -> None:
    page.set_viewport_size({"width": 420, "height": 800})
    page.goto(address)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 420
