"""What leaves the repository: the wheel with its sweeps, and the image's ingredients."""

import ast
import importlib.metadata
import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from ensgan.config import load
from ensgan.config.load import load_spec, shipped_sweeps
from ensgan.errors import ConfigError

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "sweeps").glob("*.yaml"))


def test_shipped_sweeps_go_by_their_bare_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_spec(Path("quickstart")).name == "quickstart"
    # A file of the user's comes first.
    (tmp_path / "quickstart").write_text("name: mine\ndataset: {name: phantom}\n")
    assert load_spec(Path("quickstart")).name == "mine"


def test_an_unknown_sweep_names_the_shipped_ones() -> None:
    with pytest.raises(ConfigError, match=r"no such file; shipped sweeps: .*quickstart"):
        load_spec(Path("mine.yaml"))
    with pytest.raises(ConfigError, match=r"no such file: did you mean 'quickstart'\?"):
        load_spec(Path("sweeps/quickstrat.yaml"))


def test_an_installed_wheel_finds_its_sweeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Installed(importlib.metadata.PackagePath):
        def locate(self) -> Path:
            return tmp_path / self

    files = [Installed("share/ensgan/sweeps/quickstart.yaml"), Installed("ensgan/__init__.py")]
    monkeypatch.setattr(load, "__file__", str(tmp_path / "lib" / "ensgan" / "config" / "load.py"))
    monkeypatch.setattr(importlib.metadata, "files", lambda name: files)
    assert shipped_sweeps() == {"quickstart": tmp_path / "share/ensgan/sweeps/quickstart.yaml"}


NEWER_THAN_3_10 = {
    "typing": {
        *("Self", "Never", "LiteralString", "Required", "NotRequired", "Unpack", "TypeVarTuple"),
        *("assert_never", "assert_type", "reveal_type", "dataclass_transform", "override"),
        *("TypeAliasType", "ReadOnly", "TypeIs", "get_protocol_members"),
    },
    "enum": {"StrEnum", "ReprEnum", "EnumCheck", "verify", "member", "nonmember", "global_enum"},
    "datetime": {"UTC"},
    "contextlib": {"chdir"},
    "itertools": {"batched"},
    "hashlib": {"file_digest"},
    "asyncio": {"TaskGroup", "timeout", "timeout_at", "Runner"},
    "math": {"cbrt", "exp2", "sumprod"},
    "operator": {"call"},
    "tomllib": {"load", "loads"},
    "": {"tomllib", "annotationlib", "ExceptionGroup", "BaseExceptionGroup"},
}
"""Names of the standard library that came after the oldest Python of ``requires-python``.

Ruff's target version refuses newer syntax; names it does not look at.
"""


def test_nothing_is_imported_that_the_oldest_python_lacks() -> None:
    used = [
        (f"{path.relative_to(ROOT)}:{node.lineno}", module, name)
        for path in sorted((ROOT / "ensgan").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        for module, name in names_used(node)
    ]
    assert len(used) > 1000
    assert [each for each in used if each[2] in NEWER_THAN_3_10.get(each[1], ())] == []


def names_used(node: ast.AST) -> list[tuple[str, str]]:
    """What a piece of source takes from a module: ``from M import N``, ``import M``, ``M.N``."""
    if isinstance(node, ast.ImportFrom):
        return [(node.module or "", alias.name) for alias in node.names]
    if isinstance(node, ast.Import):
        return [("", alias.name) for alias in node.names]
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return [(node.value.id, node.attr)]
    return [("", node.id)] if isinstance(node, ast.Name) else []


def test_the_image_copies_what_exists() -> None:
    copied = [
        source
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ")
        for source in line.split()[1:-1]
    ]
    assert {"ensgan", "sweeps", "pyproject.toml"} <= set(copied)
    kept = (ROOT / ".dockerignore").read_text().splitlines()
    for source in copied:
        assert (ROOT / source).exists()
        assert f"!{source}" in kept


def test_a_lock_holds_versions_and_hashes_and_no_address() -> None:
    lock = runpy.run_path(str(ROOT / "scripts" / "lock"))["lock"]
    url = "https://me:secret@index.example/numpy.whl"

    def entry(name: str, **hashes: str) -> dict[str, object]:
        info = {"url": url, "archive_info": {"hashes": hashes}}
        return {"metadata": {"name": name, "version": "1.2"}, "download_info": info}

    own = {"metadata": {"name": "ensgan", "version": "1"}, "download_info": {"dir_info": {}}}
    text = lock({"install": [own, entry("Zip", sha256="b" * 64), entry("a", sha256="c" * 64)]}, "x")
    assert text.splitlines()[1:] == [
        f"a==1.2 --hash=sha256:{'c' * 64}",
        f"zip==1.2 --hash=sha256:{'b' * 64}",
    ]
    assert "index.example" not in text
    with pytest.raises(SystemExit, match="says no SHA-256 of numpy"):
        lock({"install": [entry("numpy", md5="d" * 32)]}, "x")


@pytest.mark.slow
def test_the_wheel_works_without_the_repository(tmp_path: Path) -> None:
    # Built from a copy: setuptools leaves a build folder beside what it builds.
    source, wheels = tmp_path / "source", tmp_path / "wheels"
    for folder in ("ensgan", "sweeps"):
        shutil.copytree(ROOT / folder, source / folder)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", str(wheels), str(source)], check=True)
    (wheel,) = wheels.glob("ensgan-*.whl")
    inside = zipfile.ZipFile(wheel).namelist()
    assert sorted(Path(name).stem for name in inside if name.endswith(".yaml")) == NAMES
    # A new environment: the wheel alone, its dependencies borrowed from this one.
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    install = [python, "-m", "pip", "install", "-q", "--no-deps", wheel]
    subprocess.run(install, check=True, cwd=tmp_path, env=bare)
    (site,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    command = [python, "-m", "ensgan", "sweep", "quickstart", "--dry-run", "--json"]
    plan = subprocess.run(command, cwd=tmp_path, env=bare, capture_output=True, text=True)
    assert plan.returncode == 0, plan.stderr
    assert '"sweep": "quickstart"' in plan.stdout
    assert not (tmp_path / "ensgan-runs").exists()
