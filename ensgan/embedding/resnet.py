"""Residual networks (He et al., CVPR 2016) with the parameter names of the public weight files.

One module serves the feature extractors (ResNet-50) and the downstream classifier (ResNet-18 with
a 3×3 stem for small images), so published state dicts load unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """Convolutions around a shortcut, named conv1, bn1, conv2 and so on.

    Two of 3×3 (ResNet-18 and -34); a bottleneck has 1×1, 3×3 and 1×1 (ResNet-50).

    Args:
        inputs: channels that come in.
        width: of the 3×3 convolutions; what comes out has four times as many with a bottleneck.
        stride: of the first 3×3 convolution.
    """

    def __init__(self, inputs: int, width: int, stride: int, *, bottleneck: bool) -> None:
        super().__init__()
        channels = inputs
        layers = [(3, stride, width), (3, 1, width)]
        if bottleneck:
            layers = [(1, 1, width), (3, stride, width), (1, 1, 4 * width)]
        for number, (kernel, step, outputs) in enumerate(layers, start=1):
            convolution = nn.Conv2d(channels, outputs, kernel, step, kernel // 2, bias=False)
            self.add_module(f"conv{number}", convolution)
            self.add_module(f"bn{number}", nn.BatchNorm2d(outputs))
            channels = outputs
        self.outputs = channels
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != channels:
            convolution = nn.Conv2d(inputs, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(channels))
        self._depth = len(layers)

    def forward(self, x: Tensor) -> Tensor:
        """[n,inputs,H,W] → [n,outputs,H/stride,W/stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        for number in range(1, self._depth + 1):
            x = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x))
            if number == self._depth:
                x = x.add_(shortcut)
            x = functional.relu(x, inplace=True)
        return x


class ResNet(nn.Module):
    """A residual network of four stages.

    Args:
        depths: blocks of each stage, e.g. (2, 2, 2, 2) for ResNet-18.
        bottleneck: which of the two kinds of :class:`Block`.
        width: channels of the first stage; 64 is the published network.
        channels: channels of the image.
        classes: outputs of the linear head ``fc``.
        small_images: a 3×3 stem without max-pooling (32×32 inputs) in place of the ImageNet stem
            (7×7, stride 2, max-pooling).

    Parameter names are those of torchvision's ResNet.
    """

    def __init__(
        self,
        depths: Sequence[int],
        *,
        bottleneck: bool = False,
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
                stride = 2 if position == 0 and index > 0 else 1
                block = Block(inputs, width << index, stride, bottleneck=bottleneck)
                blocks.append(block)
                inputs = block.outputs
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.dim = inputs
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.lay_out()

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
            (2, 2, 2, 2), width=width, channels=channels, classes=classes, small_images=True
        )


def resnet50() -> ResNet:
    """ResNet-50 for 224×224 RGB images, features of 2048 dimensions."""
    return ResNet((3, 4, 6, 3), bottleneck=True)
