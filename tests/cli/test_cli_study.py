"""``ensgan study``: a page from results, through two extractors."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_shell import Shell
from made_sweep import make_sweep
from PIL import Image

from ensgan.downstream import Repeat, RepeatResult, Strategy
from ensgan.errors import InputError
from ensgan.evaluation.evaluate import EvaluationOptions
from ensgan.evaluation.finished_sweep import View, open_sweep, rescore
from ensgan.report.study import comparable_front
from ensgan.search import Evaluator
from ensgan.sweep import classifier_job as jobs
from ensgan.sweep.executor import LocalExecutor

STRATEGIES = "real,best-single,all,random:3,selected,by-intra,front:2"


@pytest.fixture
def shell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Shell:
    return Shell("study", monkeypatch, capsys, tmp_path / "storage")


def test_the_page_holds_what_was_measured(shell: Shell, tmp_path: Path) -> None:
    page, notes = tmp_path / "pages" / "toy.md", tmp_path / "notes.md"
    notes.write_text("Why it came out so.")
    title = "Toy\n# two `x` <b>\x1b[2J\u202e"
    words = ("--strategies", STRATEGIES, "-o", str(page), "--notes", str(notes), "--title", title)
    value = shell.json("made", *words, "--extractor", "random", "--score-images", "40")
    (part,) = value["parts"]
    assert part["settings"]["extractor"] == "random"
    assert "Scored with 40 images per member" in page.read_text()
    text = page.read_text()
    for row in part["strategies"]:
        assert f"{row['metrics']['auc']['mean']:.3f} ± {row['metrics']['auc']['sd']:.3f}" in text
    assert "**selected** (G*)" in text and "Why it came out so." in text
    assert "| 95 %, test images | AUC − G* | p | AUC − G*, test images |" in text
    assert text.startswith("# Toy \\# two \\`x\\` &lt;b\\>\\\\x1b\\[2J\\\\x202e\n")
    assert "--title 'Toy # two 'x' <b>\\x1b[2J\\x202e'" in text
    assert "--storage FOLDER" in text and str(shell.storage) not in text
    figures = re.findall(r"!\[.*\]\((.*)\)", text)
    assert len(figures) == 1 == len(value["figures"])
    for name in figures:
        with Image.open(page.parent / name) as picture:
            assert picture.size[0] > 500 and len(np.unique(np.asarray(picture))) > 20
    trained = shell.trained
    code, _, said = shell("made", *words, "--extractor", "random", "--score-images", "40")
    assert code == 0 and shell.trained == trained
    # Repeats were not named: they are the sweep's own.
    assert "1 epoch of 32 images at most, 2 repeats (what no option names is the first" in said


def test_another_extractor_keeps_images_and_manifest(shell: Shell) -> None:
    sweep = open_sweep("made", shell.storage)
    manifest = sweep.folder.manifest_path.read_bytes()
    other = rescore(sweep, View("random", count=40), LocalExecutor())
    assert other.scores.counts.tolist() == [40] * 6
    assert other.scores.extractor and other.spec.embed.extractor == "random"
    assert [m.samples for m in other.members] == [m.samples for m in sweep.members]
    evaluator = Evaluator(other.scores)
    for point in other.front:
        members = evaluator.indices(point.members)
        assert evaluator.evaluate(members)[:2] == pytest.approx((point.intra_d, point.inter_d))
    assert other.selected.point in other.front.points
    assert sweep.folder.manifest_path.read_bytes() == manifest
    again = rescore(sweep, View("random", count=40), LocalExecutor())
    np.testing.assert_array_equal(again.scores.density, other.scores.density)
    with pytest.raises(InputError, match="did you mean 'random'"):
        rescore(sweep, View("randm"), LocalExecutor())
    with pytest.raises(InputError, match="2 or more"):
        View("random", count=1)
    with pytest.raises(InputError, match="repeats must be at least 1, not 0"):
        EvaluationOptions(("real",), repeats=0)


def test_a_front_of_other_objectives_is_drawn_by_intra_d_and_inter_d(shell: Shell) -> None:
    sweep = open_sweep("made", shell.storage)
    assert comparable_front(sweep) == sweep.front
    other = replace(
        sweep.front,
        objectives=("frechet:max:1-d/scale", "frechet_between:min:1-d/scale"),
        points=tuple(replace(p, first=-p.first, second=9.0) for p in sweep.front),
    )
    same = comparable_front(replace(sweep, front=other))
    assert [axis.key for axis in same.axes] == ["intra_d", "inter_d"]
    np.testing.assert_allclose(
        [same.values(p) for p in same], [sweep.front.values(p) for p in sweep.front]
    )


def test_bad_input_to_a_study(shell: Shell, tmp_path: Path) -> None:
    page = str(tmp_path / "page.md")
    assert "must end in .md" in shell.refused("made", "-o", str(tmp_path / "page.html"))
    assert "no such file" in shell.refused("made", "-o", page, "--notes", "nowhere.md")
    assert "needs an extractor" in shell.refused("made", "-o", page, "--score-images", "9")
    assert "did you mean 'medical'" in shell.refused("made", "-o", page, "--extractor", "medicl")
    assert "did you mean 'made'" in shell.refused("mode", "-o", page)
    assert not Path(page).exists()


def test_the_command_of_the_page(shell: Shell, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "downstream.md").read_text()
    line, predicting = re.findall(r"```sh\n(ensgan study.*)\n```", page)
    assert shlex.split(predicting)[:4] == ["ensgan", "study", "quickstart", "--predict"]
    make_sweep(shell.storage, shell.store, "quickstart")
    _, _, sweep, *words = shlex.split(line)
    output = tmp_path / words[words.index("-o") + 1]
    words[words.index("-o") + 1] = str(output)
    small = ("--repeats", "1", "--strategies", "real,all,selected", "--score-images", "40")
    code, _, error = shell(sweep, *words, *small)
    assert code == 0, error
    text = output.read_text()
    assert "extractor random" in text and "extractor medical" in text
    assert len(list(output.parent.glob("*.png"))) == 2


@pytest.fixture
def reaching(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Classifiers that reach the share of late snapshots they trained on."""

    def reach(repeats: Sequence[Repeat], **_: object) -> list[RepeatResult]:
        shell.trained += len(repeats)
        return [one(each.strategy, each.number) for each in repeats]

    def one(strategy: Strategy, repeat: int) -> RepeatResult:
        late = [name.endswith("@2") for name in strategy.members]
        auc = 0.5 + 0.4 * float(np.mean(late or [1])) + 0.001 * repeat
        metrics = {"auc": auc, "accuracy": auc, "g_mean": auc}
        metrics |= {f"accuracy_class_{label}": auc for label in (0, 1)}
        return RepeatResult(strategy, repeat, metrics, metrics, 1 - auc, 1, 1, 1, 0.1, (1.0, 1.0))

    monkeypatch.setattr(jobs.downstream, "run_repeats", reach)


@pytest.mark.usefixtures("reaching")
def test_several_pools_of_one_data_set_are_also_tested_together(
    shell: Shell, tmp_path: Path
) -> None:
    make_sweep(shell.storage, shell.store, "other")
    page = tmp_path / "page.md"
    words = ("--strategies", "all,single:SNGAN@2,selected", "-o", str(page))
    value = shell.json("made", "other", "made", *words, "--repeats", "3")
    (name,) = value["together"]
    assert name == "2 sweeps of toy, extractor random"
    table = value["together"][name]
    # Three repeats are not tested, twice three are: at .5, and .001 more with every repeat.
    assert "3 repeats cannot decide" in value["parts"][0]["verdict"]
    assert "by AUC at 5 % (Holm, 6 repeats), against selected" in table["verdict"]
    whole, single, chosen = table["strategies"]
    assert whole["repeats"] == single["repeats"] == chosen["repeats"] == 6
    assert single["metrics"]["auc"]["mean"] == pytest.approx(0.901)
    gap = single["metrics"]["auc"]["mean"] - chosen["metrics"]["auc"]["mean"]
    assert single["metrics"]["auc"]["difference"] == pytest.approx(gap)
    text = page.read_text()
    assert f"## {name}\n" in text and f"- **{name}**: {table['verdict']}" in text
    assert "- other, extractor random: no verdict" in text
    assert "test images |" not in text  # these classifiers kept no bootstraps
    assert shell.json("made", *words, "--repeats", "3")["together"] == {}
    assert "sweeps of" not in page.read_text()
    larger = {"name": "phantom", "image_size": 64}  # called alike, but other data
    make_sweep(shell.storage, shell.store, "larger", dataset=larger)
    assert shell.json("made", "larger", *words, "--repeats", "3")["together"] == {}


@pytest.mark.usefixtures("reaching")
def test_which_scores_predict_worth(shell: Shell, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    words = ("--strategies", "all,selected", "--repeats", "1", "-o", str(page), "--predict", "16")
    value = shell.json("made", *words, "--extractor", "random", "--score-images", "40")
    found = value["parts"][0]["prediction"]
    assert len({tuple(each) for each in found["ensembles"]}) == 16
    assert found["ceiling"]["rho"] == pytest.approx(1)
    assert found["correlations"]["validation AUC"]["rho"] == pytest.approx(1)
    told = {"Fréchet closeness", "precision-recall", "-probe loss", "probe and capped Intra-d"}
    assert told <= set(found["correlations"])
    assert found["verdict"] in page.read_text()
    assert "| two repeats with each other (the ceiling) | Spearman's ρ 1.00" in page.read_text()
    trained = shell.trained
    code, _, told_of = shell("made", *words, "--extractor", "random", "--score-images", "40")
    assert code == 0 and "15/16 ensembles probed linearly" in told_of
    assert shell.trained == trained, "results on disk are not made again"
    more = shell.refused("made", "-o", str(page), "--predict", "3")
    assert "3 ensembles predict nothing: use 8 or more" in more
