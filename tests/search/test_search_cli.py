"""``ensgan search`` and ``ensgan select`` as a user calls them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from search_pool import made_up_pool
from typer.testing import CliRunner

from ensgan.cli import search as commands
from ensgan.cli import select as choosing
from ensgan.errors import InputError
from ensgan.metrics import score_pool
from ensgan.types import Front

app = typer.Typer()
app.command("search")(commands.search)
app.command("select")(choosing.select)
runner = CliRunner()


@pytest.fixture
def scores_file(tmp_path: Path) -> Path:
    path = tmp_path / "scores.npz"
    made_up_pool(0).save(path)
    return path


def test_search_prints_what_it_writes(scores_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "front.json"
    arguments = ["search", str(scores_file), "-o", str(output), "--trials", "500", "--json"]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed == json.loads(output.read_text())
    assert printed["sampler"] == "pareto-local"
    assert set(printed["points"][0]) >= {"members", "intra_d", "inter_d", "density", "coverage"}


def test_select_prints_reason_and_alternatives(scores_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "front.json"
    runner.invoke(app, ["search", str(scores_file), "-o", str(output)])
    arguments = ["select", str(output), "--rule", "knee", "--scores", str(scores_file), "--json"]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    chosen = json.loads(result.stdout)
    assert chosen["reason"].startswith("knee: Intra-d")
    assert chosen["members"]
    assert len(chosen["alternatives"]) == 3
    people = runner.invoke(app, ["select", str(output)])
    assert "chosen" in people.stdout


def test_select_refuses_a_front_of_another_pool(scores_file: Path, tmp_path: Path) -> None:
    output, other = tmp_path / "front.json", tmp_path / "other.npz"
    runner.invoke(app, ["search", str(scores_file), "-o", str(output)])
    made_up_pool(1).save(other)
    result = runner.invoke(app, ["select", str(output), "--scores", str(other)])
    assert isinstance(result.exception, InputError)
    assert "another pool" in str(result.exception)


def test_ctrl_c_writes_the_front_found_so_far(tmp_path: Path) -> None:
    scores, output = tmp_path / "scores.npz", tmp_path / "front.json"
    made_up_pool(0, members=40).save(scores)
    code = (
        "import typer\n"
        "from ensgan.cli import search\n"
        "from ensgan.search.ledger import SearchLedger\n"
        "note = SearchLedger._note\n"
        "def say_when_under_way(ledger, *, changed):\n"
        "    note(ledger, changed=changed)\n"
        "    if ledger.trials > 2000:\n"
        "        SearchLedger._note = note\n"
        "        print('ready', flush=True)\n"
        "SearchLedger._note = say_when_under_way\n"
        "app = typer.Typer()\n"
        "app.command()(search.search)\n"
        "app()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(scores), "-o", str(output), "--seconds", "300", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        # A suite run in the background ignores Ctrl-C, and its children would too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert Front.from_json(json.loads(printed)) == Front.load(output)
    assert len(Front.load(output)) > 3


def test_select_says_how_sure_it_is(scores_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "front.json"
    runner.invoke(app, ["search", str(scores_file), "-o", str(output)])
    asked = ["--bootstrap", "50", "--weights", "0.5", "--other", str(scores_file)]
    with_scores = ["select", str(output), "--scores", str(scores_file), *asked]
    result = runner.invoke(app, [*with_scores, "--json"])
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout)
    low, high = value["bootstrap"]["intra_d"]
    assert low <= value["intra_d"] <= high
    assert value["weighted"]["intra_d"] >= value["intra_d"]
    assert value["other_scores"]["intra_d"] == pytest.approx(value["intra_d"])
    assert "resamples" in runner.invoke(app, with_scores).stdout
    mixed = tmp_path / "mixed.npz"
    replace(made_up_pool(0), k=7).save(mixed)
    refused = runner.invoke(app, [*with_scores[:4], "--other", str(mixed)])
    assert "scores with k 5 and 7" in str(refused.exception)
    alone = runner.invoke(app, ["select", str(output), "--bootstrap", "50"])
    assert isinstance(alone.exception, InputError)


def test_select_shows_both_intervals_where_images_were_resampled(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    fakes = [random.normal(size=(60, 3)) * spread for spread in (0.5, 0.8, 1.0, 1.3)]
    names = ["A@1", "A@2", "B@1", "B@2"]
    scores, front = tmp_path / "scores.npz", tmp_path / "front.json"
    pool = score_pool(random.normal(size=(60, 3)), fakes, names, resamples=50)
    pool.save(scores)
    runner.invoke(app, ["search", str(scores), "-o", str(front)])
    words = ["select", str(front), "--scores", str(scores), "--bootstrap", "500"]
    value = json.loads(runner.invoke(app, [*words, "--json"]).stdout)
    found = value["bootstrap"]
    assert (found["rounds"], found["covers"]) == (50, ["real points", "images"])
    for name in ("intra_d", "inter_d", "coverage"):
        assert found[name][0] <= value[name] <= found[name][1]
        assert len(found["points"][name]) == len(Front.load(front))
    assert "real points and images" in runner.invoke(app, words).stdout
    replace(pool, resamples=None).save(scores)
    value = json.loads(runner.invoke(app, [*words, "--json"]).stdout)
    assert value["bootstrap"]["covers"] == ["real points"]
    assert "inter_d" not in value["bootstrap"]


def test_a_budget_needs_costs(scores_file: Path, tmp_path: Path) -> None:
    output, costs = tmp_path / "front.json", tmp_path / "costs.json"
    table = {name: 10.0 * (i + 1) for i, name in enumerate(made_up_pool(0).names)}
    costs.write_text(json.dumps(table))
    base = ["search", str(scores_file), "-o", str(output), "--budget", "50"]
    assert isinstance(runner.invoke(app, base).exception, InputError)
    result = runner.invoke(app, [*base, "--costs", str(costs)])
    assert result.exit_code == 0, result.output
    assert all(sum(table[name] for name in p.members) <= 50 for p in Front.load(output))
    costs.write_text("[1, 2]")
    refused = runner.invoke(app, [*base, "--costs", str(costs)])
    assert "one JSON object" in str(refused.exception)


@pytest.fixture
def scored_features(tmp_path: Path) -> tuple[Path, Path]:
    random = np.random.default_rng(0)
    real = random.normal(size=(40, 3))
    fakes = random.normal(size=(5, 30, 3)) * 0.8 + random.normal(size=(5, 1, 3)) * 0.5
    names = [f"G{i}@1000" for i in range(5)]
    features, scores = tmp_path / "features.npz", tmp_path / "scored.npz"
    np.savez(features, real=real, fake=fakes, names=np.array(names))
    score_pool(real, list(fakes), names).save(scores)
    return scores, features


@pytest.mark.parametrize("form", ["precision-recall", "frechet"])
def test_other_objectives_from_features(
    scored_features: tuple[Path, Path], tmp_path: Path, form: str
) -> None:
    scores, features = scored_features
    arguments = ["search", str(scores), "-o", str(tmp_path / "f.json"), "--objectives", form]
    result = runner.invoke(app, [*arguments, "--features", str(features), "--json"])
    assert result.exit_code == 0, result.output
    front = json.loads(result.stdout)
    assert front["objectives"][0].startswith(form.replace("-", "_"))
    assert len(front["points"][0]["measures"]) == 2
    refused = runner.invoke(app, arguments)
    assert "add --features" in str(refused.exception)
    chosen = runner.invoke(
        app, ["select", str(tmp_path / "f.json"), "--scores", str(scores), "--bootstrap", "9"]
    )
    assert "only fronts of Intra-d" in str(chosen.exception)
    people = runner.invoke(app, ["select", str(tmp_path / "f.json")])
    assert "Intra-d" not in people.stdout and "Inter-d" not in people.stdout


def test_forms_that_need_the_scores_alone(scores_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "front.json"
    search = ["search", str(scores_file), "-o", str(output), "--objectives"]
    assert runner.invoke(app, [*search, "capped", "--json"]).exit_code == 0
    capped = json.loads(output.read_text())
    assert (capped["form"], capped["objectives"][0]) == ("capped", "intra_d:max:capped")
    assert capped["points"][0]["measures"]["capped_density"] <= capped["points"][0]["density"]
    words = ["select", str(output), "--scores", str(scores_file), "--bootstrap", "20"]
    chosen = json.loads(runner.invoke(app, [*words, "--json"]).stdout)
    assert chosen["bootstrap"]["intra_d"][0] <= chosen["intra_d"]
    assert "capped density" in runner.invoke(app, [*search, "capped"]).stdout
    runner.invoke(app, [*search, "density-coverage"])
    former = json.loads(output.read_text())
    assert former["objectives"] == ["intra_d:max", "inter_d:min:symmetric"]
    assert "form" not in former and "measures" not in former["points"][0]


def test_pictures_and_a_third_objective(scores_file: Path, tmp_path: Path) -> None:
    output, heat = tmp_path / "front.json", tmp_path / "plots" / "members.png"
    plots = [tmp_path / "plots" / "front.png", tmp_path / "plots" / "front.html"]
    arguments = ["search", str(scores_file), "-o", str(output), "--third", "members"]
    pictures = ["--plot", str(plots[0]), "--plot", str(plots[1]), "--heat-map", str(heat)]
    result = runner.invoke(app, [*arguments, *pictures, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["objectives"][2] == "members:min"
    for png in (plots[0], heat):
        assert png.read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in plots[1].read_text()
    value = json.loads(runner.invoke(app, ["select", str(output), "--json"]).stdout)
    assert value["measures"]["members"] == len(value["members"])
    chosen = tmp_path / "chosen.png"
    runner.invoke(app, ["select", str(output), "--plot", str(chosen)])
    assert chosen.read_bytes().startswith(b"\x89PNG")


def test_membership_and_a_front_beside(scores_file: Path, tmp_path: Path) -> None:
    output, other = tmp_path / "front.json", tmp_path / "other.json"
    runner.invoke(app, ["search", str(scores_file), "-o", str(output)])
    runner.invoke(app, ["search", str(scores_file), "-o", str(other), "--inter", "directed"])
    arguments = ["select", str(output), "--scores", str(scores_file), "--membership", "2"]
    result = runner.invoke(app, [*arguments, "--beside", str(other), "--json"])
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout)
    assert max(value["membership"].values()) == 1.0
    assert value["side_by_side"]["points"] == [len(Front.load(output)), len(Front.load(other))]
    assert all(len(row) == 2 for row in value["side_by_side"]["members"].values())
    people = runner.invoke(app, [*arguments, "--beside", str(other)])
    assert "side by side" in people.stdout


def test_files_that_cannot_be_written_are_refused_before_the_search(
    scores_file: Path, tmp_path: Path
) -> None:
    output = tmp_path / "front.json"
    search = ["search", str(scores_file), "-o"]
    for words, message in (
        ([*search, str(tmp_path)], "it is a folder"),
        ([*search, str(scores_file / "front.json")], "is no folder that you may write to"),
        ([*search, str(output), "--record", str(tmp_path)], "it is a folder"),
        ([*search, str(output), "--plot", str(scores_file / "a.png")], "is no folder"),
    ):
        refused = runner.invoke(app, words)
        assert isinstance(refused.exception, InputError), words
        assert message in str(refused.exception)
    assert [file.name for file in tmp_path.iterdir()] == [scores_file.name]


def test_resamples_are_searched_with_the_third_objective(scores_file: Path, tmp_path: Path) -> None:
    output, costs = tmp_path / "front.json", tmp_path / "costs.json"
    table = {name: float(i + 1) for i, name in enumerate(made_up_pool(0).names)}
    costs.write_text(json.dumps(table))
    with_costs = ["--third", "cost", "--costs", str(costs)]
    runner.invoke(app, ["search", str(scores_file), "-o", str(output), *with_costs])
    asked = ["select", str(output), "--scores", str(scores_file), "--membership", "2", "--json"]
    assert "add the cost of every member" in str(runner.invoke(app, asked).exception)
    three = json.loads(runner.invoke(app, [*asked, "--costs", str(costs)]).stdout)
    # With a cost every single cheap pair is on the front, and so is every cheap member.
    assert three["membership"][made_up_pool(0).names[0]] == 1.0
    assert sum(three["membership"].values()) > 8
    alone = runner.invoke(app, [*asked[:4], "--costs", str(costs)])
    assert "leave it out" in str(alone.exception)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--objectives", "fid"], "form of the objectives"),
        (["--features", "features.npz"], "goes with --objectives"),
        (["--plot", "front.pdf"], "name a .html"),
        (["--heat-map", "members.html"], "name a .png"),
        (["--third", "cost"], "needs the cost"),
        (["--third", "size"], "third objective"),
    ],
)
def test_options_that_do_not_go_together(
    scores_file: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    output = tmp_path / "front.json"
    result = runner.invoke(app, ["search", str(scores_file), "-o", str(output), *options])
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)
    assert not output.exists()
