"""The residual discriminator's heads against the oracles."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from oracle_cases import cases, close, double, set_parameter
from torch import Tensor, nn

from ensgan.zoo.backbones.resnet import ResNet, pool_features
from ensgan.zoo.build import Discriminator
from ensgan.zoo.class_losses import D2DCE, AuxiliaryClassifier, Contrastive
from ensgan.zoo.conditioning import TAC, MultiHingeClasses, Projection


def test_residual_projection_head(oracles: Path) -> None:
    for case in cases(oracles, "losses", "residual_D_head_PD"):
        given, wanted = case["inputs"], case["expected"]
        features = pool_features(double(given["feature_map"]))
        head = Projection().head(ResNet(), 4, 2).double()
        set_parameter(head.projection.adversarial.weight, given["adv_W"])
        set_parameter(head.projection.adversarial.bias, given["adv_b"])
        set_parameter(head.projection.classes.weight, given["class_table"])
        close(features, wanted["pooled_h"])
        close(head(features, torch.tensor(given["labels"])).adversarial, wanted["adv"])


def test_residual_classifier_heads(oracles: Path) -> None:
    for case in cases(oracles, "losses", "residual_D_head_AC"):
        given, wanted = case["inputs"], case["expected"]
        features = pool_features(double(given["feature_map"]))
        head = AuxiliaryClassifier(twin=TAC()).head(ResNet(), 4, 2).double()
        set_parameter(head.adversarial.weight, given["adv_W"])
        set_parameter(head.adversarial.bias, given["adv_b"])
        set_parameter(head.main.linear.weight, given["head_W"])
        set_parameter(head.twin.linear.weight, given["twin_W"])
        says = head(features, torch.tensor(given["labels"]))
        close(says.adversarial, wanted["adv"])
        close(says.main.vectors, wanted["cls"])
        close(says.twin.vectors, wanted["twin_cls"])


@pytest.mark.parametrize("part", [D2DCE(embedding_dim=3), Contrastive(embedding_dim=3)])
def test_residual_embedding_head(oracles: Path, part: D2DCE | Contrastive) -> None:
    for case in cases(oracles, "losses", "residual_D_head_D2DCE"):
        given, wanted = case["inputs"], case["expected"]
        head = part.head(ResNet(), 4, 2).double()
        set_parameter(head.adversarial.weight, given["adv_W"])
        set_parameter(head.adversarial.bias, given["adv_b"])
        set_parameter(head.main.linear.weight, given["head_W"])
        set_parameter(head.main.linear.bias, given["head_b"])
        set_parameter(head.main.proxies.weight, given["class_table"])
        says = head(pool_features(double(given["feature_map"])), torch.tensor(given["labels"]))
        close(says.adversarial, wanted["adv"])
        close(says.main.vectors, wanted["embed"])
        close(says.main.proxies, wanted["proxy"])


def test_residual_multi_hinge_head(oracles: Path) -> None:
    for case in cases(oracles, "losses", "residual_D_head_MH"):
        given = case["inputs"]
        head = MultiHingeClasses().head(ResNet(), 4, 2).double()
        set_parameter(head.adversarial.weight, given["adv_W"])
        set_parameter(head.adversarial.bias, given["adv_b"])
        says = head(pool_features(double(given["feature_map"])), torch.tensor(given["labels"]))
        close(says.adversarial, case["expected"]["adv"])


def test_residual_info_head_reads_the_mean(oracles: Path) -> None:
    class Given(nn.Module):
        feature_dim = 4

        def forward(self, images: Tensor) -> Tensor:
            return pool_features(images)

    for case in cases(oracles, "losses", "residual_D_head_PD_info"):
        given, wanted = case["inputs"], case["expected"]
        feature_map, labels = double(given["feature_map"]), torch.tensor(given["labels"])
        backbone = ResNet()
        trunk = Given()
        trunk.code_divisor = float(feature_map[0, 0].numel())
        code_head = backbone.linear(4, 6, bias=False).double()
        head = Projection().head(backbone, 4, 2).double()
        set_parameter(head.projection.adversarial.weight, given["adv_W"])
        set_parameter(head.projection.adversarial.bias, given["adv_b"])
        set_parameter(head.projection.classes.weight, given["class_table"])
        set_parameter(code_head.weight, given["info_W"])
        says = Discriminator(trunk, head, code_head)(feature_map, labels, codes=True)
        close(says.adversarial, wanted["adv"])
        close(says.code_logits, wanted["info_logits"])
