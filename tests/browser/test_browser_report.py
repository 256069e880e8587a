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
    page.set_viewport_size({"width": 400, "height": 800})
    page.goto(address)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 400


def test_the_verdict_and_a_picture_are_on_the_first_screen(
    page: Any, address: str, screenshots: Path
) -> None:
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(address)
    page.screenshot(path=screenshots / "report-first-screen.png")
    assert page.locator("#verdict .headline").inner_text() == "G* is 2 of 4 generators: A@10, B@10"
    picture = page.locator("#selected img").first.bounding_box()
    assert picture["y"] < 900
    assert picture["width"] >= 8 * 128, "every one of its eight images is 128 pixels wide"


def test_pictures_enlarge_and_snapshots_slide(page: Any, address: str, screenshots: Path) -> None:
    page.goto(address)
    picture = page.locator("#selected img").first
    before = picture.bounding_box()["width"]
    picture.click()
    page.screenshot(path=screenshots / "report-enlarged.png")
    assert picture.evaluate("i => getComputedStyle(i).position") == "fixed"
    page.keyboard.press("Escape")
    assert picture.bounding_box()["width"] == before
    strip = page.locator(".snapshots").first
    tall = strip.bounding_box()["height"]
    slider = page.locator("label.snapshot input").first
    slider.focus()
    page.keyboard.press("Home")
    assert page.locator("label.snapshot output").first.inner_text() == "A@10"
    assert strip.bounding_box()["height"] < 0.6 * tall
    page.keyboard.press("End")
    assert strip.bounding_box()["height"] == tall


def test_tables_sort_and_the_overlap_map_answers(page: Any, address: str) -> None:
    page.goto(address)
    first = page.locator("table.sortable tr:nth-child(2) td").first
    heading = page.locator("table.sortable th button").first
    heading.click()
    assert first.inner_text().startswith("A@10")
    heading.click()
    assert first.inner_text().startswith("B@20")
    page.locator("#overlap-map").hover(position={"x": 5, "y": 60})
    assert ": 0.25" in page.locator("#overlap-detail").inner_text()


def test_print_cuts_nothing(page: Any, address: str, screenshots: Path) -> None:
    """On A4 no table or picture is wider than the page, and what is closed is printed."""
    page.set_viewport_size({"width": 720, "height": 1000})
    page.emulate_media(media="print")
    page.goto(address)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.pdf(path=screenshots / "report.pdf", format="A4")
    wide = "e => e.getBoundingClientRect().right > innerWidth + 1"
    beyond = page.evaluate(
        f"[...document.querySelectorAll('table, img, svg, pre')].filter({wide}).map(e => e.id)"
    )
    assert beyond == []
    assert page.locator("details table").first.is_visible()
