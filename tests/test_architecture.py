"""Imports point downward only, and heavy packages are imported in one place each."""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

PACKAGE = Path(__file__).parents[1] / "ensgan"
sys.path.insert(0, str(PACKAGE.parent / "scripts"))

import measure_code  # noqa: E402

PACKAGE_FILES = 20
FILE_LINES = 340
FUNCTION_LINES = 52
COMMAND_LINES = 100

LAYERS = (
    {"types", "errors", "config", "files", "inputs", "caches", "outputs", "text", "registry"}
    | {"precision"},
    {"data", "zoo", "embedding", "metrics", "search", "store"},
    {"train", "downstream", "ensemble"},
    {"sweep"},
    {"evaluation"},
    {"report"},
    {"cluster"},
    {"launch"},
    {"cli"},
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
BLIND = {"data", "zoo", "embedding", "metrics", "search", "store"}

ONE_PLACE = {
    "ray": ("cluster/",),
    "mlflow": ("store/mlflow.py",),
    "faiss": ("metrics/knn.py",),
    "optuna": ("search/optuna/",),
    "pymoo": ("search/pymoo.py",),
    "torchvision": ("embedding/",),
    "timm": ("embedding/",),
    "medmnist": ("data/medmnist.py",),
    "pydicom": ("data/", "ensemble/export.py"),
    "typer": ("cli/",),
}
# The core must run with torch + numpy (+ pydantic, safetensors) alone.
CORE = {*LAYERS[0], "zoo", "train", "embedding", "metrics"}

FILES = sorted(PACKAGE.rglob("*.py"))


def imports(tree: ast.AST) -> list[str]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import: write the full name"
            names.append(node.module or "")
            if node.module == "ensgan":
                names += [f"ensgan.{alias.name}" for alias in node.names]
    return names


def part_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downward(path: Path) -> None:
    part = part_of(path)
    if part in ("__init__", "__main__"):
        return
    for name in imports(ast.parse(path.read_text())):
        pieces = name.split(".")
        if pieces[0] != "ensgan" or len(pieces) < 2 or pieces[1].startswith("__"):
            continue
        other = pieces[1]
        assert other in LEVEL, f"{other} is in no layer"
        if other == part:
            continue
        assert LEVEL[other] <= LEVEL[part], f"{part} imports {other} from above"
        assert not (part in BLIND and other in BLIND), f"{part} must not know {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_packages_live_in_one_place(path: Path) -> None:
    relative = path.relative_to(PACKAGE).as_posix()
    for name in imports(ast.parse(path.read_text())):
        allowed = ONE_PLACE.get(name.split(".")[0])
        if allowed is not None:
            assert relative.startswith(allowed), f"{relative} imports {name}"


def test_core_imports_without_heavy_packages() -> None:
    import subprocess
    import sys

    blocked = ["ray", "mlflow", "optuna", "pymoo", "faiss", "medmnist", "sklearn"]
    modules = [
        ".".join(("ensgan", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
            ".__init__"
        )
        for path in FILES
        if part_of(path) in CORE
    ]
    code = (
        f"import sys, importlib\n"
        f"for name in {blocked!r}: sys.modules[name] = None\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    return measure_code.measure(PACKAGE)


def test_nothing_imports_in_a_circle(figures: dict[str, Any]) -> None:
    assert figures["circles of modules"] == []
    assert figures["circles of packages"] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_is_one_story(path: Path) -> None:
    """Files of about 300 lines; functions of about 40 besides docstrings, commands list options."""
    text = path.read_text()
    assert text.count("\n") <= FILE_LINES, "when a file outgrows this, it is two things"
    longest = COMMAND_LINES if part_of(path) == "cli" else FUNCTION_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            length -= len((ast.get_docstring(node, clean=False) or "").splitlines())
            assert length <= longest, f"{node.name} has {length} lines"


def test_a_package_has_few_files() -> None:
    for folder, count in Counter(path.parent for path in FILES).items():
        assert count <= PACKAGE_FILES, f"{folder.relative_to(PACKAGE)}: {count} files"


def test_the_picture_in_the_architecture_page_is_of_today() -> None:
    page = (PACKAGE.parent / "ARCHITECTURE.md").read_text()
    (drawn,) = re.findall(r"```mermaid\n(.*?)\n```", page, flags=re.S)
    assert drawn == measure_code.diagram(PACKAGE), "python scripts/measure_code.py --diagram"
