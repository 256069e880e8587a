"""The table of rows: against the specification, rules, names, plugins."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as functional

import ensgan.registry as plugin_files
from ensgan import zoo
from ensgan.errors import ConfigError, InputError
from ensgan.types import ImageShape
from ensgan.zoo.backbones import Player
from ensgan.zoo.backbones.resnet_layers import (
    BatchNorm,
    Conv2d,
    ConvDownsample2d,
    TrunkBlock,
    UpsampleConv2d,
)
from ensgan.zoo.footprint import footprint

GREY = ImageShape(1, 32)
STANDARD = 22


def test_there_are_22_rows() -> None:
    assert len(zoo.names()) == STANDARD


PART_NAMES = {
    "Projection": "PD",
    "AuxiliaryClassifier": "AC",
    "Contrastive": "2C",
    "D2DCE": "D2DCE",
    "MultiHingeClasses": "MH",
}
LOSS_NAMES = {"Hinge": "hinge", "Logistic": "logistic", "MultiHinge": "multi-hinge"}


@pytest.mark.parametrize("name", zoo.names())
def test_rows_are_the_specified_ones(oracles: Path, name: str) -> None:
    oracle = json.loads((oracles / "gan_configs.json").read_text())[name]
    spec = zoo.get(name)
    row: Any = spec.to_json()
    optimiser, conditioning = spec.optimiser, row["conditioning"]
    assert row["backbone"]["part"] == oracle["backbone"]
    assert PART_NAMES[conditioning["part"]] == oracle["d_cond"].replace("SPD", "PD")
    twin = conditioning.get("twin", {"part": "NoTwin"})["part"]
    assert (None if twin == "NoTwin" else twin) == oracle["aux_classifier"]
    assert conditioning.get("embedding_dim") == oracle["embed_dim"]
    assert conditioning.get("weight") == oracle["cond_weight"]
    assert conditioning.get("temperature") == oracle["temperature"]
    assert conditioning.get("margin") == oracle["m_p"]
    if twin == "TAC":
        weights = conditioning["twin"]
        assert weights["generator_weight"] == oracle["tac_weights"]["g"]
        assert weights["discriminator_weight"] == oracle["tac_weights"]["d"]
        assert weights["form"] == "paper"
    assert spec.backbone.latent_dim == oracle["z_dim"]
    assert row["backbone"].get("shared_dim") == oracle["shared_embed_dim"]
    for player, adam in (("g", optimiser.generator), ("d", optimiser.discriminator)):
        assert adam.learning_rate == pytest.approx(oracle["adam"][player]["lr"], rel=1e-8)
        assert adam.betas == pytest.approx(tuple(oracle["adam"][player]["betas"]))
        assert adam.eps == oracle["adam"][player]["eps"]
    assert optimiser.batch == oracle["batch"]
    assert optimiser.d_updates_per_step == oracle["d_updates_per_step"]
    assert optimiser.d_first == oracle["d_first"]
    info = spec.info_code
    assert (info and (info.codes, info.categories, info.weight)) == (
        oracle["info"] and tuple(oracle["info"][key] for key in ("num", "dim", "weight"))
    )
    adversarial = row["adversarial"]
    assert LOSS_NAMES[adversarial["part"]] == oracle["adv_loss"]
    assert adversarial.get("generator_weight") == oracle["mh_weight_g"]
    regularizers = {part["part"]: part for part in row["regularizers"]}
    r1 = regularizers.get("R1")
    assert (r1 and (r1["weight"], r1["every"])) == (
        oracle["r1"] and (oracle["r1"]["weight"], oracle["r1"]["interval"])
    )
    matching = regularizers.get("FeatureMatching")
    assert (matching and matching["weight"]) == oracle["feature_matching_weight"]
    ema = oracle["ema"]
    if ema is None:
        assert row["ema"]["part"] == "NoAverage"
    elif ema["kind"] == "fixed":
        assert (row["ema"]["decay_rate"], row["ema"]["start"]) == (ema["decay"], ema["start_step"])
    else:
        assert row["ema"]["half_life_images"] == 1000 * ema["half_life_kimg"]
        assert row["ema"]["ramp_up"] == ema["rampup"]
    augment, expected = row["augmentation"], oracle["augment"]
    if expected is None:
        assert augment["part"] == "NoAugment"
    elif "ada" in expected:
        assert (augment["target"], augment["kimg"]) == (expected["target"], expected["kimg"])
    else:
        assert augment["part"] == "DiffAugment"


@pytest.mark.parametrize("name", zoo.names())
def test_rows_survive_json(name: str) -> None:
    for spec in (zoo.get(name), zoo.get(name).scaled(0.125)):
        assert zoo.GANSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize("name", zoo.names())
def test_width_scales_every_row(name: str) -> None:
    spec = zoo.get(name)
    assert spec.scaled(1.0) is spec
    full = zoo.count_parameters(spec, GREY, 2)
    half = zoo.count_parameters(spec.scaled(0.5), GREY, 2)
    assert all(0.15 < small / large < 0.4 for small, large in zip(half, full, strict=True))


def test_json_names_parts_only() -> None:
    value: Any = zoo.get("SNGAN").to_json()
    with pytest.raises(InputError, match="unknown GAN part 'ResNett': did you mean 'ResNet'"):
        zoo.GANSpec.from_json({**value, "backbone": {"part": "ResNett"}})
    with pytest.raises(InputError, match="did you mean 'base_channels'"):
        zoo.GANSpec.from_json({**value, "backbone": {"part": "ResNet", "base_chanels": 3}})
    with pytest.raises(InputError, match=r"backbone: .* instance of Backbone"):
        zoo.GANSpec.from_json({**value, "backbone": {"part": "Hinge"}})
    with pytest.raises(InputError, match="mapping with a 'part'"):
        zoo.GANSpec.from_json("os.system")


BROKEN = [
    ("SNGAN", {"conditioning": zoo.Projection(twin=zoo.ADC())}, GREY, 2, "ADC needs a classifier"),
    ("BigGAN", {"backbone": zoo.BigResNet(latent_dim=81)}, GREY, 2, "4 equal chunks.*80 or 84"),
    ("SNGAN", {}, ImageShape(1, 48), 2, "32, 64, 128 pixels, not 48"),
    ("StyleGAN2", {}, ImageShape(1, 48), 2, "not 48: use 64"),
    ("ReACGAN", {}, GREY, 1, "at least 2 classes, the data has 1"),
    ("ACGAN-Mod", {}, GREY, 1, "at least 2 classes"),
    ("SNGAN", {"regularizers": (zoo.InfoCode(),)}, GREY, 2, "no input for InfoGAN codes"),
    ("MHGAN", {"adversarial": zoo.Hinge()}, GREY, 2, "need each other"),
    ("MHGAN", {"augmentation": zoo.ADA()}, GREY, 2, "multi-hinge head"),
    ("SNGAN", {"optimiser": zoo.Optimiser(batch=1)}, GREY, 2, "batch: .*or equal to 2, not 1"),
    ("StyleGAN2", {"regularizers": (zoo.R1(every=0),)}, GREY, 2, "R1: every: .* greater than 0"),
    ("BigGAN", {"regularizers": (zoo.InfoCode(0, 1),)}, GREY, 2, "(?s)codes: .*categories: "),
    ("BigGAN", {"ema": zoo.FixedAverage(1.5)}, GREY, 2, "decay_rate: .* less than 1, not 1.5"),
    ("StyleGAN2", {"ema": zoo.HalfLifeAverage(0)}, GREY, 2, "half_life_images: .* greater than 0"),
    (
        "ReACGAN",
        {"conditioning": zoo.D2DCE(temperature=0)},
        GREY,
        2,
        "temperature: .* greater",
    ),
    ("ReACGAN", {"conditioning": zoo.D2DCE(weight="x")}, GREY, 2, "weight: .* number, not 'x'"),
    ("MHGAN", {"adversarial": zoo.MultiHinge(-1)}, GREY, 2, "generator_weight: .* or equal to 0"),
    ("StyleGAN2", {"backbone": zoo.StyleGAN2(group_size=0)}, GREY, 2, "group_size: input"),
    ("SNGAN", {"backbone": zoo.ResNet(base_channels=0)}, GREY, 2, "base_channels: input"),
    (
        "ACGAN-Mod-TAC",
        {"conditioning": zoo.AuxiliaryClassifier(twin=zoo.TAC(form="x"))},
        GREY,
        2,
        "form: .*'paper' or 'reference'",
    ),
]


@pytest.mark.parametrize(("name", "change", "shape", "classes", "message"), BROKEN)
def test_illegal_rows_name_the_rule(
    name: str, change: dict[str, Any], shape: ImageShape, classes: int, message: str
) -> None:
    spec = replace(zoo.get(name), **change)
    with pytest.raises(ConfigError, match=message):
        zoo.build_generator(spec, shape, classes, 0)


def test_unknown_and_repeated_names() -> None:
    with pytest.raises(InputError, match="did you mean 'StyleGAN2-ADA'"):
        zoo.get("stylegan2ada")
    with pytest.raises(InputError, match="already a GAN named 'SNGAN'"):
        zoo.register(replace(zoo.get("SNGAN"), name="sngan"))
    with pytest.raises(InputError, match="not a GAN name"):
        replace(zoo.get("SNGAN"), name="a/b")


PLUGIN = """
from dataclasses import replace
from itertools import pairwise
from ensgan import zoo

zoo.register(replace(zoo.get("SNGAN"), name="SNGAN-DiffAug", augmentation=zoo.DiffAugment()))
"""


def test_a_plugin_adds_a_row(tmp_path: Path) -> None:
    path = tmp_path / "my_gans.py"
    path.write_text(PLUGIN)
    from ensgan.zoo import table

    before = zoo.names()
    try:
        assert zoo.load_plugin(path) == ("SNGAN-DiffAug",)
        assert zoo.load_plugin(path) == ("SNGAN-DiffAug",)
        assert zoo.names() == (*before, "SNGAN-DiffAug")
        assert zoo.count_parameters(zoo.get("SNGAN-DiffAug"), GREY, 2)[0] == 4275201
    finally:
        table.gans.forget(set(zoo.names()) - set(before))
        plugin_files._plugins.clear()


def test_a_bad_plugin_adds_nothing(tmp_path: Path) -> None:
    before = zoo.names()
    path = tmp_path / "bad.py"
    path.write_text(PLUGIN + "\nraise RuntimeError('half way')\n")
    with pytest.raises(InputError, match="half way"):
        zoo.load_plugin(path)
    path.write_text("x = 1\n")
    with pytest.raises(InputError, match="registers no GAN"):
        zoo.load_plugin(path)
    with pytest.raises(InputError, match="no such plugin file"):
        zoo.load_plugin(tmp_path / "absent.py")
    assert zoo.names() == before


def test_fused_resampling_convolutions_are_the_plain_ones() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    for fused, plain in (
        (
            UpsampleConv2d(3, 5, spectral=False),
            lambda conv, x: conv(functional.interpolate(x, scale_factor=2.0)),
        ),
        (
            ConvDownsample2d(3, 5, spectral=False),
            lambda conv, x: functional.avg_pool2d(conv(x), 2),
        ),
    ):
        reference = Conv2d(3, 5, spectral=False)
        reference.load_state_dict(fused.state_dict())
        for module in (fused, reference):
            module.double()
            torch.nn.init.constant_(module.bias, 0.3)
        ours, theirs = fused(images), plain(reference, images)
        torch.testing.assert_close(ours, theirs)
        weights = torch.randn_like(ours)
        one = torch.autograd.grad((ours * weights).sum(), [images, fused.weight])
        two = torch.autograd.grad((theirs * weights).sum(), [images, reference.weight])
        torch.testing.assert_close(one, two)


def test_the_shortcut_reads_the_rectified_input_with_spectral_norm_only() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 8, 4, 4)
    spectral = TrunkBlock(8, 8, first=False, downsample=False, spectral=True).eval()
    torch.testing.assert_close(spectral(images), spectral(images.relu()))
    plain = TrunkBlock(8, 8, first=False, downsample=False, spectral=False).eval()
    main = plain.conv2(plain.norm2(plain.conv1(plain.norm1(images).relu())).relu())
    torch.testing.assert_close(plain(images), images + main)


def test_running_statistics_move_in_the_generators_update_only() -> None:
    generator = zoo.build_generator(zoo.get("SNGAN").scaled(1 / 32), GREY, 2, 0)
    norm = next(module for module in generator.modules() if isinstance(module, BatchNorm))
    inputs = (torch.randn(4, 128), torch.zeros(4, dtype=torch.int64))
    for player, moves in ((Player.DISCRIMINATOR, False), (Player.GENERATOR, True)):
        before = norm.running_mean.clone()
        generator.prepare(player)
        generator(*inputs)
        assert torch.equal(norm.running_mean, before) != moves


def test_building_is_seeded_and_leaves_the_global_generator_alone() -> None:
    spec = zoo.get("BigGAN").scaled(1 / 32)
    before = torch.get_rng_state()
    one, two = (zoo.build_generator(spec, GREY, 2, 4) for _ in range(2))
    other = zoo.build_generator(spec, GREY, 2, 5)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.input.weight, two.input.weight)
    assert not torch.equal(one.input.weight, other.input.weight)
    rows = one.embedding.weight
    torch.testing.assert_close(rows @ rows.t(), torch.eye(2))


def test_footprint_grows_with_the_batch() -> None:
    spec = zoo.get("SNGAN")
    small, large = (footprint(spec, GREY, 2, batch=batch) for batch in (16, 64))
    assert small.generator_parameters == 4275201
    weights = 4 * 4 * sum(zoo.count_parameters(spec, GREY, 2))
    assert weights < small.training_bytes < large.training_bytes
