"""Losses and regularizers against the oracles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from oracle_cases import cases, close, double
from torch import Tensor, nn

from ensgan.zoo.backbones import Evidence, HeadOutput
from ensgan.zoo.class_losses import (
    D2DCE,
    AuxiliaryClassifier,
    conditional_contrastive_loss,
    data_to_data_cross_entropy,
)
from ensgan.zoo.conditioning import ADC, TAC
from ensgan.zoo.losses import (
    R1,
    Hinge,
    Logistic,
    MultiHinge,
    code_cross_entropy,
    crammer_singer,
    feature_matching,
    r1_penalty,
)

NONE = torch.zeros(0)


@pytest.mark.parametrize(("name", "loss"), [("hinge", Hinge()), ("logistic", Logistic())])
def test_adversarial_pairs(oracles: Path, name: str, loss: Hinge | Logistic) -> None:
    for case in cases(oracles, "losses", name):
        real, fake = double(case["inputs"]["real"]), double(case["inputs"]["fake"])
        close(loss.discriminator_loss(real, fake, NONE), case["expected"]["D"])
        close(loss.generator_loss(fake, NONE), case["expected"]["G"])


def test_multi_hinge_with_feature_matching(oracles: Path) -> None:
    for case in cases(oracles, "losses", "multi_hinge"):
        given, wanted = case["inputs"], case["expected"]
        real, fake = double(given["out_real"]), double(given["out_fake"])
        real_labels = torch.tensor(given["real_labels"])
        fake_labels = torch.tensor(given["fake_labels"])
        loss = MultiHinge(given["mh_lambda"])
        close(crammer_singer(real, real_labels), wanted["D_real_term"])
        close(loss.discriminator_loss(real, fake, real_labels), wanted["D_total"])
        matching = feature_matching(double(given["h_fake"]), double(given["h_real"]))
        close(matching, wanted["feature_matching"])
        total = loss.generator_loss(fake, fake_labels) + given["fm_lambda"] * matching
        close(total, wanted["G_total"])


def test_auxiliary_classifier(oracles: Path) -> None:
    for case in cases(oracles, "losses", "ac_cross_entropy"):
        labels = torch.tensor(case["inputs"]["labels"])
        evidence = Evidence(double(case["inputs"]["logits"]))
        close(AuxiliaryClassifier().class_loss(evidence, labels), case["expected"]["loss"])


@pytest.mark.parametrize("name", ["two_c", "d2d_ce"])
def test_contrastive_losses_and_gradients(oracles: Path, name: str) -> None:
    for case in cases(oracles, "losses", name):
        given, wanted = case["inputs"], case["expected"]
        embed = double(given["embed"]).requires_grad_()
        proxy = double(given["proxy"]).requires_grad_()
        labels = torch.tensor(given["labels"])
        unit = (nn.functional.normalize(embed, dim=1), nn.functional.normalize(proxy, dim=1))
        if name == "two_c":
            loss = conditional_contrastive_loss(*unit, labels, given["temperature"])
        else:
            loss = data_to_data_cross_entropy(
                *unit, labels, temperature=given["temperature"], margin=given["m_p"]
            )
        loss.backward()
        close(loss, wanted["loss"])
        assert embed.grad is not None
        assert proxy.grad is not None
        close(embed.grad, wanted["grad_embed"])
        close(proxy.grad, wanted["grad_proxy"])


def test_d2dce_of_one_class_is_zero_and_the_paper_form_differs() -> None:
    generator = torch.Generator().manual_seed(0)
    unit = nn.functional.normalize(torch.randn(6, 3, generator=generator, dtype=torch.float64))
    proxies = unit.roll(1, 0)
    one_class = torch.zeros(6, dtype=torch.int64)
    options = {"temperature": 0.5, "margin": 0.98}
    close(data_to_data_cross_entropy(unit, proxies, one_class, **options), 0.0)
    two = one_class.clone()
    two[3:] = 1
    shifted = data_to_data_cross_entropy(unit, proxies, two, **options)
    paper = data_to_data_cross_entropy(unit, proxies, two, **options, shift_negatives=False)
    positive = torch.relu((0.98 - (unit * proxies).sum(1)) / 0.5)
    negatives = torch.relu((unit @ unit.t() - 0.02) / 0.5).exp() * (two[:, None] != two[None])
    expected = -torch.log((-positive).exp() / ((-positive).exp() + negatives.sum(1))).mean()
    close(paper, expected.tolist())
    assert abs(float(shifted - paper)) > 1e-3


def output(main: Evidence | None, twin: Evidence | None = None) -> HeadOutput:
    return HeadOutput(NONE, NONE, main, twin)


@pytest.mark.parametrize("form", ["paper", "reference"])
def test_tac_on_classifier_logits(oracles: Path, form: str) -> None:
    suffix = "paper" if form == "paper" else "reference_code"
    for case in cases(oracles, "losses", "tac_ac"):
        given, lam = case["inputs"], case["inputs"]["lam"]
        conditioning = AuxiliaryClassifier(lam, TAC(lam, lam, form))
        real = output(Evidence(double(given["main_real"])), None)
        fake = output(Evidence(double(given["main_fake"])), Evidence(double(given["twin_fake"])))
        y_real, y_fake = torch.tensor(given["real_labels"]), torch.tensor(given["fake_labels"])
        discriminator = conditioning.discriminator_losses(real, fake, y_real, y_fake)
        generator = conditioning.generator_losses(fake, y_fake, lambda targets, fake=fake: fake)
        close(discriminator["conditional"], case["expected"][f"D_cond_{suffix}"])
        close(generator["conditional"], case["expected"][f"G_cond_{suffix}"])


def unit_rows(values: object) -> Tensor:
    return nn.functional.normalize(double(values), dim=1)


@pytest.mark.parametrize("form", ["paper", "reference"])
def test_tac_on_embeddings(oracles: Path, form: str) -> None:
    suffix = "paper" if form == "paper" else "reference_code"
    for case in cases(oracles, "losses", "tac_d2dce"):
        given, lam = case["inputs"], case["inputs"]["lam"]
        conditioning = D2DCE(lam, given["temperature"], given["m_p"], twin=TAC(lam, lam, form))
        y_real, y_fake = torch.tensor(given["real_labels"]), torch.tensor(given["fake_labels"])
        main, twin = unit_rows(given["main_proxies"]), unit_rows(given["twin_proxies"])
        real = output(Evidence(unit_rows(given["embed_real"]), main[y_real]))
        fake = output(
            Evidence(unit_rows(given["embed_fake"]), main[y_fake]),
            Evidence(unit_rows(given["twin_embed_fake"]), twin[y_fake]),
        )
        discriminator = conditioning.discriminator_losses(real, fake, y_real, y_fake)
        generator = conditioning.generator_losses(fake, y_fake, lambda targets, fake=fake: fake)
        close(discriminator["conditional"], case["expected"][f"D_cond_{suffix}"])
        close(generator["conditional"], case["expected"][f"G_cond_{suffix}"])


def test_adc_on_classifier_logits(oracles: Path) -> None:
    for case in cases(oracles, "losses", "adc_ac"):
        given = case["inputs"]
        conditioning = AuxiliaryClassifier(given["lam"], ADC())
        y_real, y_fake = torch.tensor(given["real_labels"]), torch.tensor(given["fake_labels"])
        real = output(Evidence(double(given["logits_real"])))
        fake = output(Evidence(double(given["logits_fake"])))
        discriminator = conditioning.discriminator_losses(
            real, fake, conditioning.real_targets(y_real), conditioning.fake_targets(y_fake)
        )
        generator = conditioning.generator_losses(fake, y_fake, lambda targets, fake=fake: fake)
        close(discriminator["conditional"], case["expected"]["D_cond"])
        close(generator["conditional"], case["expected"]["G_cond"])


def test_adc_on_embeddings(oracles: Path) -> None:
    for case in cases(oracles, "losses", "adc_d2dce"):
        given = case["inputs"]
        conditioning = D2DCE(given["lam"], given["temperature"], given["m_p"], twin=ADC())
        table = unit_rows(given["proxy_table"])
        y_real, y_fake = torch.tensor(given["real_labels"]), torch.tensor(given["fake_labels"])

        def says(
            name: str, targets: Tensor, given: Any = given, table: Tensor = table
        ) -> HeadOutput:
            return output(Evidence(unit_rows(given[name]), table[targets]))

        real_targets = conditioning.real_targets(y_real)
        fake_targets = conditioning.fake_targets(y_fake)
        discriminator = conditioning.discriminator_losses(
            says("embed_real", real_targets),
            says("embed_fake", fake_targets),
            real_targets,
            fake_targets,
        )
        generator = conditioning.generator_losses(
            says("embed_fake", conditioning.real_targets(y_fake)),
            y_fake,
            lambda targets, says=says: says("embed_fake", targets),
        )
        close(discriminator["conditional"], case["expected"]["D_cond"])
        close(generator["conditional"], case["expected"]["G_cond"])


def test_r1_penalty(oracles: Path) -> None:
    for case in cases(oracles, "losses", "r1_penalty"):
        given, wanted = case["inputs"], case["expected"]
        images, w = double(given["x"]), double(given["w"])

        def discriminate(x: Tensor, w: Tensor = w, c: float = given["c"]) -> HeadOutput:
            terms = w * x + 0.5 * c * x.square() + x**3 / 3
            return HeadOutput(x, terms.flatten(1).sum(1))

        leaf = images.clone().requires_grad_()
        says = discriminate(leaf)
        close(says.adversarial, wanted["D_values"])
        close(r1_penalty(leaf, says.adversarial), wanted["penalty"])
        lazy = R1(0.01, 16).discriminator_losses(images, discriminate)
        close(lazy["r1"], wanted["lazy_term"])


def test_r1_is_due_at_every_sixteenth_update() -> None:
    assert [update for update in range(40) if R1().due(update)] == [0, 16, 32]


def test_info_codes(oracles: Path) -> None:
    for case in cases(oracles, "losses", "infogan_discrete"):
        logits, codes = double(case["inputs"]["logits"]), torch.tensor(case["inputs"]["codes"])
        close(code_cross_entropy(logits, codes), case["expected"]["loss"])
