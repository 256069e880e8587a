"""Residual networks (He et al., CVPR 2016) with the parameter names of the public weight files.

One module serves the feature extractors (ResNet-50) and the downstream classifier (ResNet-18 with
a 3×3 stem for small images), so published state dicts load unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class BasicBlock(nn.Module):
    """Two 3×3 convolutions around a shortcut (ResNet-18 and -34)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[n,inputs,H,W] → [n,width,H/stride,W/stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        return functional.relu(self.bn2(self.conv2(x)).add_(shortcut), inplace=True)


class Bottleneck(nn.Module):
    """1×1, 3×3 (carrying the stride), 1×1 convolutions around a shortcut (ResNet-50)."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[n,inputs,H,W] → [n,4·width,H/stride,W/stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        x = functional.relu(self.bn2(self.conv2(x)), inplace=True)
        return functional.relu(self.bn3(self.conv3(x)).add_(shortcut), inplace=True)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """A residual network of four stages.

    Args:
        block: ``BasicBlock`` or ``Bottleneck``.
        depths: blocks of each stage, e.g. (2, 2, 2, 2) for ResNet-18.
        width: channels of the first stage; 64 is the published network.
        channels: channels of the image.
        classes: outputs of the linear head ``fc``.
        small_images: a 3×3 stem without max-pooling (32×32 inputs) in place of the ImageNet stem
            (7×7, stride 2, max-pooling).

    Parameter names are those of torchvision's ResNet.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        *,
        width: int = 64,
        channels: int = 3,
        classes: int = 1000,
        small_images: bool = False,
    ) -> None:
        super().__init__()
        self.small_images = small_images
        # Channels last is the faster form; with fewer than 8 channels oneDNN (torch 2.13, AVX2)
        # writes outside its buffers in the backward pass.
        self.memory_format = torch.contiguous_format if width % 8 else torch.channels_last
        kernel, stride = (3, 1) if small_images else (7, 2)
        self.conv1 = nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        stages, inputs = [], width
        for index, depth in enumerate(depths):
            blocks = []
            for position in range(depth):
                first = position == 0 and index > 0
                blocks.append(block(inputs, width << index, 2 if first else 1))
                inputs = (width << index) * block.expansion
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.dim = inputs
        self.fc = nn.Linear(inputs, classes)
        self._initialise()
        self.lay_out()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def lay_out(self) -> None:
        """Lay the weights out in ``memory_format``."""
        for parameter in self.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=self.memory_format)

    def features(self, x: Tensor) -> Tensor:
        """Globally averaged features of the last stage: [n,C,H,W] → [n,dim]."""
        x = x.contiguous(memory_format=self.memory_format)
        x = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        if not self.small_images:
            x = functional.max_pool2d(x, 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Class scores before the softmax: [n,C,H,W] → [n,classes]."""
        scores: Tensor = self.fc(self.features(x))
        return scores


def resnet18(*, channels: int, classes: int, width: int = 64, seed: int) -> ResNet:
    """ResNet-18 for small images: 3×3 stem, no max-pooling.

    Args:
        channels: channels of the image.
        classes: number of classes.
        width: channels of the first stage; 64 is ResNet-18 proper, smaller is cheaper.
        seed: draws the initial weights; torch's global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return ResNet(
            BasicBlock,
            (2, 2, 2, 2),
            width=width,
            channels=channels,
            classes=classes,
            small_images=True,
        )


def resnet50(*, classes: int = 1000) -> ResNet:
    """ResNet-50 for 224×224 RGB images, features of 2048 dimensions."""
    return ResNet(Bottleneck, (3, 4, 6, 3), classes=classes)
