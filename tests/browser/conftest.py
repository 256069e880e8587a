"""A headless Chromium for the tests of pages, and where their screenshots go."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 120_000
"""Milliseconds a page may take on a busy machine."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """The system's Chromium, driven by Playwright; skips where either is missing."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium here: scripts/test --browser installs one")
    with api.sync_playwright() as playwright:
        # Root, as in most containers, cannot use Chromium's own sandbox.
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        chromium = playwright.chromium.launch(
            executable_path=path, args=[*sandbox, "--disable-dev-shm-usage"]
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the screenshots: ``ENSGAN_SCREENSHOTS``, or a temporary one."""
    named = os.environ.get("ENSGAN_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page of its own; ``page.problems`` collects script errors, dialogs and foreign requests."""
    context = browser.new_context(viewport={"width": 1300, "height": 1000})
    made = context.new_page()
    made.set_default_timeout(PATIENCE)
    made.problems = []
    made.on("pageerror", lambda error: made.problems.append(f"error: {error}"))
    made.on("dialog", lambda dialog: (made.problems.append(dialog.message), dialog.dismiss()))
    made.on("request", lambda request: _note_foreign(made, request.url))
    yield made
    context.close()


def _note_foreign(page: Any, url: str) -> None:
    own = ("file:", "data:", "blob:", "about:", "http://127.0.0.1:", "http://localhost:")
    if not url.startswith(own):
        page.problems.append(f"request: {url}")
