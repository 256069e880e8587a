"""The documentation: every public name has its entry, and all of it builds without a warning."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import ensgan

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def test_every_public_name_is_in_the_api_page() -> None:
    entries = re.findall(r"\.\. auto\w+:: ensgan\.(\w+)", (DOCS / "api.md").read_text())
    assert sorted(entries) == sorted(ensgan.__all__)


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "index.md").read_text()
    pages = [*DOCS.glob("*.md"), *DOCS.glob("tutorials/*.md")]
    listed = {str(page.relative_to(DOCS).with_suffix("")) for page in pages} - {"index"}
    assert listed <= set(index.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("builder", ["html", "doctest"])
def test_it_builds_without_a_warning(builder: str, tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="scripts/docs installs it")
    pytest.importorskip("furo", reason="scripts/docs installs it")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", builder]
    done = subprocess.run(
        [*command, str(DOCS), str(tmp_path / builder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if builder == "html":
        assert "ensgan.run_sweep" in (tmp_path / "html" / "api.html").read_text()
    else:
        tests = re.search(r"(\d+) tests", (tmp_path / "doctest" / "output.txt").read_text())
        assert tests is not None and int(tests[1]) > 0
