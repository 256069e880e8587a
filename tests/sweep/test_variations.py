"""Configurations: which there are, what they are called, and what of them is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made_sweep import make_sweep
from tiny_sweep import tiny

from ensgan import zoo
from ensgan.cluster.trial_queue import ranks, trial_requests
from ensgan.config import parse_spec
from ensgan.config.vary import Value
from ensgan.errors import ConfigError
from ensgan.report import views
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.planning.plan import make_plan
from ensgan.sweep.planning.sweep_file import known_names
from ensgan.sweep.planning.variations import Configuration, configurations
from ensgan.sweep.resolving import resolve

GANS = ["SNGAN", "StyleGAN2-ADA"]


def made(vary: Any, gans: list[str] = GANS, **train: Any) -> tuple[Configuration, ...]:
    tree = tiny(train={"gans": gans, "vary": vary, **train})
    found, problems = configurations(parse_spec(tree, known=known_names()))
    assert problems == []
    return found


def names(*arguments: Any, **train: Any) -> list[str]:
    return [each.name for each in made(*arguments, **train)]


def problems(vary: Any, **train: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        resolve(parse_spec(tiny(train={"gans": GANS, "vary": vary, **train})))
    return caught.value.problems


def test_a_grid_gives_every_gan_every_combination() -> None:
    found = made({"seed": [0, 1], "learning_rate": [0.5, 1]})
    assert [each.name for each in found] == [
        f"{gan}{variation}"
        for gan in GANS
        for variation in ("~lr0.5", "", "~lr0.5-s1", "~s1")  # a GAN's own values have no name
    ]
    assert found[0].values == {"seed": 0, "learning_rate": 0.5}
    assert found[1].values == {"seed": 0, "learning_rate": 1.0}


def test_a_gan_that_nothing_changes_trains_as_without_variations() -> None:
    plain = made(None)
    varied = {each.name: each for each in made({"seed": [0, 1], "batch": [8, 16]})}
    for each in plain:
        same = varied[each.name]
        assert (same.row, same.settings) == (each.row, each.settings)
        assert json.dumps(same.settings.identity()) == json.dumps(each.settings.identity())


def test_seeds_differ_and_pairs_of_one_seed_begin_alike() -> None:
    found = {each.name: each.settings.seed for each in made({"seed": [0, 1], "width": [0.05]})}
    assert len(set(found.values())) == 4
    again = {each.name: each.settings.seed for each in made({"seed": [1]})}
    assert again["SNGAN~s1"] == found["SNGAN~w0.05-s1"]


def test_values_of_parts_reach_the_gans_that_have_them() -> None:
    found = made({"ADA.target": [0.6, 0.8], "Adam.betas": [[0, 0.99]]})
    assert [each.name for each in found] == [
        "SNGAN~Adam.betas0_0.99",
        "StyleGAN2-ADA~Adam.betas0_0.99",
        "StyleGAN2-ADA~ADA.target0.8-Adam.betas0_0.99",
    ]
    row = found[-1].row
    assert isinstance(row.augmentation, zoo.ADA) and row.augmentation.target == 0.8
    assert row.optimiser.generator.betas == row.optimiser.discriminator.betas == (0.0, 0.99)
    assert zoo.GANSpec.from_json(row.to_json()) == row
    assert found[0].values == {"Adam.betas": (0.0, 0.99)}


def test_settings_without_an_effect_make_no_second_training() -> None:
    """SNGAN averages nothing, StyleGAN2's average has a half-life; BigGAN's decay is fixed."""
    found = names({"weights": ["ema", "raw"], "ema_decay": [0.9, 0.99]}, gans=[*GANS, "BigGAN"])
    assert found == [
        "SNGAN",
        *("StyleGAN2-ADA", "StyleGAN2-ADA~weights_raw"),
        *("BigGAN~ema_decay0.9", "BigGAN~ema_decay0.99"),
        *("BigGAN~ema_decay0.9-weights_raw", "BigGAN~ema_decay0.99-weights_raw"),
    ]


def test_a_variation_wins_over_an_override_and_that_over_the_sweep() -> None:
    found = made({"learning_rate": [1, 2]}, overrides={"SNGAN": {"learning_rate": 2.0, "steps": 4}})
    assert [(each.name, each.settings.learning_rate) for each in found] == [
        ("SNGAN~lr1", 1.0),
        ("SNGAN", 2.0),
        ("StyleGAN2-ADA", 1.0),
        ("StyleGAN2-ADA~lr2", 2.0),
    ]
    assert [each.settings.steps for each in found] == [4, 4, 6, 6]


def test_variants_have_the_names_they_are_given() -> None:
    variants = [{"name": "fast", "learning_rate": 2}, {"ADA.target": 0.3}, {"name": "as-is"}]
    assert names(variants) == [
        *("SNGAN~fast", "SNGAN"),  # what SNGAN has not is dropped, and then it is as it is
        *("StyleGAN2-ADA~fast", "StyleGAN2-ADA~ADA.target0.3", "StyleGAN2-ADA"),
    ]


def test_draws_follow_the_seed_and_more_begin_with_the_same() -> None:
    drawn = {
        "learning_rate": {"log": [0.2, 5]},
        "batch": {"uniform": [4, 9]},
        "width": [0.03, 0.06],
    }
    few = made({"sample": 6, "from": drawn}, gans=["SNGAN"])
    assert len({each.name for each in few}) == 6
    for each in few:
        values = each.values
        assert 0.2 <= values["learning_rate"] <= 5 and values["width"] in (0.03, 0.06)
        assert type(values["batch"]) is int and 4 <= values["batch"] <= 9
        assert each.settings.learning_rate == values["learning_rate"]
    more = made({"sample": 9, "from": drawn}, gans=["SNGAN"])
    assert more[:6] == few
    random = made({"sample": 6, "from": drawn, "method": "random"}, gans=["SNGAN"])
    assert random == made({"sample": 6, "from": drawn, "method": "random"}, gans=["SNGAN"]) != few


def test_draws_that_train_the_same_are_one_and_the_dry_run_says_so(tmp_path: Path) -> None:
    vary = {"sample": 8, "from": {"width": {"uniform": [0.02, 0.03]}}}
    sweep = resolve(parse_spec(tiny(train={"gans": GANS, "vary": vary})))
    rows = [each.row.backbone for each in sweep.configurations]
    assert len(set(rows)) == len(rows) < 16
    fewer = [gan for gan in GANS if sum(each.name.startswith(gan) for each in sweep.gans) < 8]
    remark = make_plan(sweep, tmp_path).remark
    assert "of 8 draws some come to the same training" in remark
    assert fewer and all(f"{gan} in " in remark for gan in fewer)


def test_drawn_steps_are_a_multiple_of_the_snapshots() -> None:
    found = made({"sample": 4, "from": {"steps": {"uniform": [3, 99]}}}, gans=["SNGAN"])
    assert all(each.settings.steps % 2 == 0 for each in found)


def test_long_names_are_cut_and_stay_apart() -> None:
    parts = {f"ADA.{name}": [0.01, 0.02] for name in ("start", "scale", "stretch", "rotation")}
    more = {"ADA.integer_shift": [0.01, 0.02], "ADA.fractional_shift": [0.01, 0.02]}
    found = names({**parts, **more}, gans=["StyleGAN2-ADA"])
    assert len(set(found)) == 64 and max(map(len, found)) <= 80
    assert found == names({**parts, **more}, gans=["StyleGAN2-ADA"])


@pytest.mark.parametrize(
    ("vary", "expected"),
    [
        ({"DiffAugment.cutout": [0.1]}, "no GAN of the sweep has DiffAugment.cutout"),
        ({"ADA.target": ["high"]}, "ADA.target is a number like 0.6, not 'high'"),
        ({"ADA.target": [7]}, "target: input should be less than or equal to 1, not 7.0"),
        ({"ADA.interval": [2.5]}, "ADA.interval is a whole number like 4, not 2.5"),
        ({"Adam.betas": [0.5]}, "Adam.betas is a list of 2 numbers"),
        ({"D2DCE.margin": [0.5]}, "has D2DCE.margin: leave it out, or add ReACGAN"),
        ({"seed": list(range(501))}, "makes 1,002 configurations: add --yes-many"),
        ({"sample": 9, "from": {"width": [0.05, 0.1]}}, "has only 2 different configurations"),
        ([{"seed": 0}, {"learning_rate": 1.0}], "train SNGAN in the same way"),
        (
            [{"name": "a", "seed": 1}, {"name": "A", "seed": 2}],
            "differ only in upper and lower case",
        ),
        ([{"name": "a", "seed": 1}, {"name": "a", "seed": 2}], "are the same: rename one"),
        ({"batch": [4, 4000], "seed": [1, 2]}, "train.SNGAN~b4000-s1 and 1 more: a step needs"),
        ({"steps": [6, 7]}, "2 snapshots do not divide 7 steps"),
    ],
)
def test_what_cannot_be_trained_is_said_before_anything_is(vary: Any, expected: str) -> None:
    assert any(expected in problem for problem in problems(vary))


def test_all_problems_come_at_once() -> None:
    found = problems({"ADA.target": ["x", 7], "DiffAugment.cutout": [1], "batch": [8, 4000]})
    assert len(found) == 4


def test_many_are_allowed_when_meant() -> None:
    spec = parse_spec(tiny(train={"gans": GANS, "vary": {"seed": list(range(501))}}))
    assert len(resolve(spec, many=True).gans) == 1002


def test_no_gan_of_the_zoo_can_be_called_like_a_variation() -> None:
    (varied,) = made({"seed": [1]}, gans=["SNGAN"])
    with pytest.raises(Exception, match="what stands behind '~' is a variation's"):
        zoo.register(varied.row)


def test_the_priority_of_a_gan_is_that_of_its_variations() -> None:
    from types import SimpleNamespace

    jobs: Any = [
        SimpleNamespace(name=name, effort=effort, memory_bytes=0)
        for name, effort in (("StyleGAN2-ADA~s1", 9.0), ("SNGAN~s1", 1.0), ("SNGAN", 2.0))
    ]
    cluster = parse_spec(tiny(cluster={"priority": {"SNGAN": 1}})).cluster
    order = [request.gan for request in trial_requests(jobs, cluster, None)]
    assert order == ["SNGAN", "SNGAN~s1", "StyleGAN2-ADA~s1"]
    assert ranks(jobs, cluster) == {"SNGAN": 1, "SNGAN~s1": 1, "StyleGAN2-ADA~s1": 0}


def test_the_store_is_told_what_was_varied(tmp_path: Path) -> None:
    make_sweep(tmp_path)
    manifest = SweepFolder(tmp_path / "sweeps" / "made").read()
    assert views.variation(manifest, "SNGAN") == {}, "a sweep without variations says nothing"
    assert views.members_csv(manifest).startswith(b"member,intra_d,density")
    values: dict[str, dict[str, Value]] = {
        "SNGAN": {"seed": 0, "ADA.target": 0.5},
        "SAGAN": {"seed": 1, "Adam.betas": (0.0, 0.9)},
    }
    varied = manifest.model_copy(update={"variations": values})
    assert views.variation(varied, "SNGAN") == {
        "config.gan": "SNGAN",
        "config.seed": 0,
        "config.ADA.target": 0.5,
    }
    head, first, *_ = views.members_csv(varied).decode().splitlines()
    assert head.startswith("member,seed,ADA.target,Adam.betas,intra_d")
    assert first.startswith("SNGAN@1,0,0.5,,0.5")
    said = manifest.members["SNGAN@1"].model_copy(update={"health": ("=1+1",)})
    odd = manifest.model_copy(update={"members": {"SNGAN@1": said}})
    assert ",'=1+1," in views.members_csv(odd).decode(), "text is no formula of a spreadsheet"


def test_variations_survive_the_manifests_file(tmp_path: Path) -> None:
    make_sweep(tmp_path)
    folder = SweepFolder(tmp_path / "sweeps" / "made")
    values: dict[str, dict[str, Value]] = {
        "SNGAN": {"seed": 1, "Adam.betas": (0.0, 0.9), "weights": "raw", "D2DCE.shift": True},
        "SAGAN": {"learning_rate": 1.0},
    }
    folder.read().model_copy(update={"variations": values}).save(folder.manifest_path)
    read = folder.read().variations
    assert read == values
    assert type(read["SAGAN"]["learning_rate"]) is float and read["SNGAN"]["D2DCE.shift"] is True
