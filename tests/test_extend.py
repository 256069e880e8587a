"""docs/extend.md: every example of it in a sweep and on the command line, and what is refused."""

import json
import re
from pathlib import Path

import pytest
from tiny_sweep import write_sweep
from typer.testing import CliRunner

import ensgan.registry as plugin_files
from ensgan.cli import app
from ensgan.data.registry import DATASETS
from ensgan.downstream import STRATEGIES
from ensgan.embedding import EXTRACTORS
from ensgan.errors import InputError
from ensgan.launch.runs import load_run
from ensgan.launch.sweep import run_sweep
from ensgan.search import FORMS, RULES
from ensgan.sweep.planning.sweep_file import load_sweep, own_variant
from ensgan.types import Front

PAGE = (Path(__file__).parents[1] / "docs" / "extend.md").read_text()
REGISTRIES = (DATASETS, EXTRACTORS, FORMS, RULES, STRATEGIES)


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_variants", dict(registry._variants))
    monkeypatch.setattr(plugin_files, "_plugins", {})


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """All examples of the page in one file."""
    path = tmp_path / "mine.py"
    path.write_text("\n".join(re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)))
    return path


@pytest.mark.timeout(300)
def test_every_example_in_one_sweep(mine: Path, tmp_path: Path) -> None:
    spec = write_sweep(
        tmp_path,
        dataset={"name": "mine.py:STRIPES", "options": {}},
        embed={"extractor": "mine.py:MEANS"},
        search={"objectives": "mine.py:COVERED", "trials": 20},
        select={"rule": "mine.py:FEWEST"},
        evaluate={"strategies": ["all", "mine.py:BETTER_HALF", "selected"]},
    )
    result = run_sweep(spec, storage=tmp_path / "runs", address="none")
    assert result.front.form == "covered"
    assert result.selected.rule == "fewest" and "the fewest members" in result.selected.reason
    assert [row.strategy for row in result.table] == ["all", "better-half", "selected"]
    run = load_run("tiny", storage=tmp_path / "runs")
    assert run.content.manifest.dataset.name == "stripes"
    assert run.report(tmp_path / "report.html").is_file()
    # Again, as in a new process that has not run the file yet.
    for registry in REGISTRIES:
        registry.forget(
            {"stripes", "means", "covered", "fewest", "better-half"} & {*registry.names()}
        )
    plugin_files._plugins.clear()
    again = run_sweep(spec, storage=tmp_path / "runs", address="none")
    assert again.run_id == result.run_id and again.selected == result.selected


def test_the_commands_of_the_page(
    mine: Path, tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scores.npz").write_bytes((shared / "bench/nano10/scores-random.npz").read_bytes())
    commands = re.findall(r"^ensgan (.*)$", PAGE, flags=re.M)
    assert len(commands) == 2
    for command in commands:
        done = CliRunner().invoke(app, [*command.split(), "--json"])
        assert done.exit_code == 0, done.output
    front = Front.load(tmp_path / "front.json")
    assert front.form == "covered"
    fewest = min(len(point.members) for point in front)
    assert len(json.loads(done.stdout)["members"]) == fewest


def test_references_of_settings_are_read_too(mine: Path, tmp_path: Path) -> None:
    spec = load_sweep(write_sweep(tmp_path), ["search.objectives=mine.py:COVERED"])
    assert spec.search.objectives == "covered"
    assert spec.train.plugins == [str(mine.resolve())]


@pytest.mark.parametrize(
    ("reference", "match"),
    [
        ("absent.py:COVERED", "no such plugin file"),
        ("mine.py:COVERD", "unknown name 'COVERD': did you mean 'COVERED'"),
        ("mine.py:FEWEST", "is no form of the objectives but SelectionRule"),
        ("broken.py:X", "broken.py failed: ZeroDivisionError"),
        ("empty.py:X", "registers no GAN or .*form of the objectives"),
    ],
)
def test_what_is_no_variant_is_refused(
    mine: Path, tmp_path: Path, reference: str, match: str
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(InputError, match=match):
        own_variant(reference, FORMS, tmp_path)


def test_a_front_file_runs_no_code(mine: Path, tmp_path: Path, shared: Path) -> None:
    front = tmp_path / "front.json"
    scores = shared / "bench/nano10/scores-random.npz"
    done = CliRunner().invoke(
        app, ["search", str(scores), "--trials", "20", "-o", str(front), "--json"]
    )
    assert done.exit_code == 0, done.output
    marker = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nX = 1\n")
    value = json.loads(front.read_text()) | {"form": f"{tmp_path / 'evil.py'}:X"}
    front.write_text(json.dumps(value))
    for rule in ("knee", "ratio"):
        CliRunner().invoke(app, ["select", str(front), "--rule", rule])
    assert not marker.exists()
