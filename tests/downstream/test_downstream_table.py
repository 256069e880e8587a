"""The table of classifiers: statistics over repeats, and the verdict."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensgan.downstream import (
    RepeatResult,
    Strategy,
    needs_long_real,
    summarise,
)
from ensgan.downstream.statistics import holm, mean_interval, paired_t_test, resampled_auc
from ensgan.errors import InputError


def result(name: str, repeat: int, value: float) -> RepeatResult:
    kind = "real" if name == "real" else "synthetic"
    members = () if name == "real" else ("A@1",)
    metrics = dict.fromkeys(("accuracy", "g_mean", "auc", "accuracy_class_0"), value)
    return RepeatResult(
        Strategy(name, members, kind=kind), repeat, metrics, metrics, 0.3, 5, 4, 100, 1.5, (1.0,)
    )


def table(values: dict[str, list[float]], possible_auc: float | None = None):
    runs = [
        result(name, repeat, value)
        for name, column in values.items()
        for repeat, value in enumerate(column)
    ]
    return summarise(runs, "selected", possible_auc)


def test_intervals_over_test_images_hold_classifiers_as_they_are() -> None:
    """Two classifiers of five, one image apart, on bootstraps of the same test images."""
    rng = np.random.default_rng(0)
    labels = np.arange(60, dtype=np.int64) % 2
    chances = 0.5 + 0.2 * (labels - 0.5) + 0.15 * rng.normal(size=(2, 60))
    worse = chances - 0.4 * (np.arange(60) == 1)  # one image of class 1 slips
    runs = []
    for name, each in {"selected": chances, "all": worse}.items():
        for repeat, row in enumerate(each):
            found = resampled_auc(labels, np.stack([1 - row, row], 1))
            runs.append(replace(result(name, repeat, 0.8), resampled_auc=found))
    found = summarise(runs, "selected")
    chosen, other = found.row("selected"), found.row("all")
    assert chosen.test_difference is None and chosen.test_images is not None
    assert other.test_images is not None and other.test_difference is not None
    # Paired: the difference is far surer than either.
    widths = [high - low for low, high in (other.test_images, other.test_difference)]
    assert widths[1] < widths[0] / 2
    assert other.test_difference[0] < 0 and other.test_difference[1] <= 0
    assert 0 <= chosen.test_images[0] < chosen.test_images[1] <= 1
    value = json.loads(json.dumps(runs[0].to_json()))
    assert RepeatResult.from_json(value) == runs[0]
    del value["resampled_auc"]  # as earlier versions wrote it
    old = RepeatResult.from_json(value)
    rows = summarise([old, *runs[1:]], "selected")
    assert rows.row("selected").test_images is rows.row("all").test_difference is None
    assert rows.row("all").test_images == other.test_images


def test_table_of_known_numbers() -> None:
    from scipy import stats

    values = {
        "real": [0.9, 0.92, 0.94, 0.91, 0.97],
        "all": [0.6, 0.63, 0.61, 0.66, 0.58],
        "selected": [0.8, 0.79, 0.83, 0.81, 0.85],
        "random:2#0": [0.5, 0.6, 0.7, 0.6, 0.6],
        "random:2#1": [0.7, 0.7, 0.7, 0.8, 0.6],
    }
    found = table(values)
    assert [row.strategy for row in found] == ["real", "all", "selected", "random:2"]
    selected = found.row("selected").metrics["auc"]
    assert selected.mean == pytest.approx(np.mean(values["selected"]))
    assert selected.sd == pytest.approx(np.std(values["selected"], ddof=1))
    low, high = stats.t.interval(0.95, 4, selected.mean, selected.sd / np.sqrt(5))
    # On the logit scale: a little more room on the side of the middle, close otherwise.
    assert (selected.low, selected.high) == (
        pytest.approx(low, abs=4e-3),
        pytest.approx(high, abs=4e-3),
    )
    assert selected.low < low and selected.high < high
    assert selected.p is None
    merged = found.row("random:2")
    assert merged.draws == 2
    assert merged.metrics["auc"].mean == pytest.approx(0.65)
    raw = [
        stats.ttest_rel(column, values["selected"]).pvalue
        for column in (values["real"], values["all"], [0.6, 0.65, 0.7, 0.7, 0.6])
    ]
    got = [found.row(name).metrics["auc"].p for name in ("real", "all", "random:2")]
    assert got == pytest.approx(holm(raw))
    gap = (np.mean(values["selected"]) - np.mean(values["all"])) / (
        np.mean(values["real"]) - np.mean(values["all"])
    )
    assert found.row("selected").gap_closed["auc"] == pytest.approx(gap)
    assert found.row("all").gap_closed["auc"] == pytest.approx(0)
    assert found.row("all").metrics["auc"].difference == pytest.approx(0.616 - 0.816)


def test_intervals_stay_within_what_a_metric_can_be() -> None:
    """What the usual interval does with two repeats: [-0.72, 1.86] of an AUC."""
    for values in ([0.47, 0.67], [0.99, 1.0], [0.0, 0.4], [0.001, 0.9, 0.95]):
        low, high = mean_interval(np.array(values))
        assert 0 <= low < np.mean(values) < high <= 1
    assert mean_interval(np.array([1.0, 1.0])) == (1.0, 1.0)
    assert mean_interval(np.array([0.5])) == (None, None)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    for center, spread in ((0.9, 0.02), (0.6, 0.1)):
        held = 0
        for _ in range(600):
            low, high = mean_interval(np.clip(rng.normal(center, spread, 6), 0, 1))
            held += low <= center <= high
        assert 0.92 <= held / 600 <= 0.98


def test_fewer_than_five_repeats_have_no_p() -> None:
    four = {"real": [0.9, 0.91, 0.93, 0.95], "selected": [0.5, 0.52, 0.51, 0.55]}
    assert table(four).row("real").metrics["auc"].p is None
    assert table(four).row("real").metrics["auc"].difference > 0.3
    five = {"real": [*four["real"], 0.92], "selected": [*four["selected"], 0.49]}
    assert table(five).row("real").metrics["auc"].p < 0.01


def test_classifiers_that_cannot_tell_are_called_undecided() -> None:
    weak = {"real": [0.6, 0.62], "selected": [0.5, 0.55]}
    assert needs_long_real(table(weak).results)
    assert table(weak).undecided == ""  # not known yet
    found = table(weak, 0.98)
    assert "0.610" in found.undecided and "0.980" in found.undecided
    assert found.to_json()["undecided"].startswith("undecided: ")
    # Hard data: ten times the steps give little more, so the comparison stands.
    assert table(weak, 0.62).undecided == ""
    assert not needs_long_real(table({"real": [0.98, 0.97], "selected": [0.5, 0.6]}).results)
    assert not needs_long_real(table({"selected": [0.5, 0.6]}).results)


def test_the_verdict_names_who_is_better_worse_and_level() -> None:
    rng = np.random.default_rng(0)
    values = {
        "selected": (0.8 + 0.01 * rng.normal(size=6)).tolist(),
        "real": (0.95 + 0.01 * rng.normal(size=6)).tolist(),
        "all": (0.6 + 0.01 * rng.normal(size=6)).tolist(),
        "last": (0.8 + 0.01 * rng.normal(size=6)).tolist(),
    }
    assert table(values).verdict == (
        "by AUC at 5 % (Holm, 6 repeats), against selected: better: real; worse: all; "
        "not told apart: last"
    )
    few = {name: column[:3] for name, column in values.items()}
    assert table(few).verdict == "no verdict: 3 repeats cannot decide, 5 may"
    assert table(values, 0.999).verdict == table(values, 0.999).undecided != ""
    assert table({"real": [0.9, 0.8]}).verdict == ""


def test_what_makes_the_table_worth_less_is_said() -> None:
    behind = table({"real": [0.9, 0.9], "all": [0.7, 0.7], "selected": [0.5, 0.6], "last": [0.5]})
    assert behind.cautions == ("G* (0.550) is behind all (0.700) by AUC",)
    assert [row.strategy for row in behind.ranked()] == ["real", "all", "selected", "last"]
    assert table({"real": [0.9], "all": [0.5], "selected": [0.6]}).cautions == ()
    blind = summarise(
        [replace(each, metrics={**each.metrics, "g_mean": 0.0}) for each in behind.results]
    )
    assert "real images miss a whole class" in blind.cautions[0]
    assert blind.to_json()["cautions"] == list(blind.cautions)


def test_results_of_an_earlier_version_are_compared_by_what_they_share() -> None:
    old = result("all", 0, 0.5)
    new = result("selected", 0, 0.6)
    new = RepeatResult.from_json(new.to_json() | {"metrics": {**new.metrics, "brier": 0.2}})
    for order in ([old, new], [new, old]):
        assert set(summarise(order).row("selected").metrics) == set(old.metrics)


def test_table_is_json_and_works_with_few_repeats() -> None:
    two = table({"real": [0.9, 0.9], "selected": [0.8, 0.8]})
    json.dumps(two.to_json(), allow_nan=False)
    # Equal differences have no spread: no p is better than p = 0.
    assert two.row("real").metrics["auc"].p is None
    assert two.row("real").gap_closed["auc"] is None
    one = table({"real": [0.9], "selected": [0.8]})
    assert one.row("real").metrics["auc"].sd is None
    json.dumps(one.to_json(), allow_nan=False)
    alone = table({"real": [0.9, 0.8]})
    assert alone.reference is None
    assert alone.row("real").metrics["auc"].difference is None


def test_bad_sets_of_results_are_refused() -> None:
    with pytest.raises(InputError, match="no downstream results"):
        summarise([])
    with pytest.raises(InputError, match="repeat 0 twice"):
        summarise([result("real", 0, 0.1), result("real", 0, 0.2)])
    with pytest.raises(InputError, match="different repeats"):
        summarise([result("random:2#0", 0, 0.1), result("random:2#1", 1, 0.2)])
    with pytest.raises(InputError, match="not evaluated"):
        table({"real": [0.1]}).row("all")


def test_holm_known_values() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_never_lowers_and_keeps_the_order(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert all(new >= old for new, old in zip(corrected, p_values, strict=True))
    assert all(new <= 1 for new in corrected)
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(corrected)[order]) >= 0).all()


def test_paired_t_test_needs_two_different_pairs() -> None:
    assert paired_t_test(np.array([0.1])) is None
    assert paired_t_test(np.array([0.1, 0.1])) is None
    p = paired_t_test(np.array([0.1, 0.2, 0.15]))
    assert p is not None
    assert 0 < p < 0.1
