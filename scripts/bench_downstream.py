"""Downstream classifiers: ours against a DataLoader, one model after another, plain eager torch.

Both train the same network on the same images for the same epochs and repeats and test on the same
split. Ours trains as many repeats side by side as there are threads, one thread each.

With --defaults: what real images reach with the classifiers of sweep files, and with ten times the
training where they stay below .97; a ratio below .97 makes a table of theirs undecided.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--width", type=int, default=16, help="channels of the first stage")
    parser.add_argument("--images", type=int, default=512, help="training images per epoch")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2, help="classifiers of one strategy")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="alternating measurements of each")
    parser.add_argument("--defaults", nargs="+", metavar="SWEEP", help="files or names of sweeps")
    parser.add_argument("--set", action="append", default=[], help="a setting of theirs, a.b=value")


def make_data(images: int) -> tuple[Any, Any]:
    import numpy as np

    from ensgan.downstream import MemoryBank
    from ensgan.types import Dataset, Samples

    def split(n: int, seed: int) -> Samples:
        rng = np.random.default_rng(seed)
        labels = np.arange(n) % 2
        return Samples(rng.integers(0, 256, (n, 32, 32), dtype=np.uint8), labels)

    dataset = Dataset("noise", split(images, 0), split(128, 1), split(128, 2), ("no", "yes"))
    return dataset, MemoryBank({f"A@{i}": split(images, 10 + i) for i in range(1, 6)})


def ours_once(width: int, images: int, epochs: int, repeat: int) -> float:
    """Seconds of one repeat in this process."""
    import torch

    from ensgan.downstream import ClassifierSettings, Strategy, run_repeat

    torch.set_num_threads(1)
    dataset, bank = make_data(images)
    settings = ClassifierSettings(epochs=epochs, width=width)
    strategy = Strategy("selected", tuple(bank.members))
    result = run_repeat(strategy, repeat, dataset=dataset, bank=bank, settings=settings, seed=0)
    return float(result.seconds)


def plain_once(width: int, images: int, epochs: int, seed: int) -> None:
    """One classifier as a straightforward script would train it."""
    import torch
    from torch.nn import functional

    from ensgan.downstream import classification_metrics
    from ensgan.embedding.resnet import resnet18

    dataset, bank = make_data(images)
    members = [bank.load(name) for name in bank.members]
    rng = __import__("numpy").random.default_rng(seed)

    class Drawn(torch.utils.data.Dataset):
        """An image of a random member at a time."""

        def __len__(self) -> int:
            return images

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            samples = members[rng.integers(len(members))]
            row = rng.integers(len(samples))
            pixels = torch.from_numpy(samples.images[row]).float().div(127.5).sub(1)
            return pixels[None], int(samples.labels[row])

    class Fixed(torch.utils.data.Dataset):
        def __init__(self, samples: Any) -> None:
            self.samples = samples

        def __len__(self) -> int:
            return len(self.samples)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            pixels = torch.from_numpy(self.samples.images[index]).float().div(127.5).sub(1)
            return pixels[None], int(self.samples.labels[index])

    network = resnet18(channels=1, classes=2, width=width, seed=seed)
    network.memory_format = torch.contiguous_format
    network.lay_out()
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    loader = torch.utils.data.DataLoader(Drawn(), 64, shuffle=True)

    def evaluate(samples: Any) -> tuple[Any, Any]:
        network.eval()
        scores, labels = [], []
        with torch.no_grad():
            for x, y in torch.utils.data.DataLoader(Fixed(samples), 64):
                scores.append(network(x))
                labels.append(y)
        return torch.cat(scores), torch.cat(labels)

    for _ in range(epochs):
        network.train()
        for x, y in loader:
            loss = functional.cross_entropy(network(x), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loss.item()
        scores, labels = evaluate(dataset.val)
        functional.cross_entropy(scores, labels).item()
    for split in (dataset.test, dataset.val):
        scores, labels = evaluate(split)
        classification_metrics(labels.numpy(), scores.double().softmax(1).numpy())


def convolution_share(width: int) -> dict[str, float]:
    """What the network's step reaches of the rate of its widest 3×3 convolution, one thread."""
    import torch
    from torch.nn import functional

    from ensgan.embedding.resnet import resnet18

    torch.set_num_threads(1)
    network = resnet18(channels=1, classes=2, width=width, seed=0)
    x, y = torch.randn(64, 1, 32, 32), torch.randint(0, 2, (64,))

    def step() -> None:
        network.zero_grad()
        functional.cross_entropy(network(x), y).backward()

    layer = torch.nn.Conv2d(4 * width, 4 * width, 3, padding=1, bias=False)
    layer.to(memory_format=network.memory_format)
    inner = torch.randn(64, 4 * width, 8, 8).contiguous(memory_format=network.memory_format)
    inner.requires_grad_()

    def convolution() -> None:
        layer(inner).sum().backward()

    network_rate = 3 * _flop(network, x) / _median_seconds(step)
    layer_rate = 3 * 2 * layer.weight.numel() * 64 * 64 / _median_seconds(convolution)
    return {
        "network_gflops": network_rate / 1e9,
        "convolution_gflops": layer_rate / 1e9,
        "share": network_rate / layer_rate,
    }


def grouped_share(width: int, models: int = 4) -> dict[str, float]:
    """A step of several classifiers trained together against one after another, 1 thread."""
    import torch

    from ensgan.downstream.together import Together, Training
    from ensgan.embedding.fit import Batch, FitSettings
    from ensgan.embedding.resnet import resnet18

    torch.set_num_threads(1)
    images = torch.randint(0, 256, (64, 1, 32, 32), dtype=torch.uint8)
    batch = Batch(images, torch.arange(64) % 2)
    settings, validation = FitSettings(epochs=4, batch=64), batch.part(slice(2))

    def trainings() -> list[Training]:
        networks = [resnet18(channels=1, classes=2, width=width, seed=i) for i in range(models)]
        return [Training(each, lambda epoch: batch, torch.ones(2)) for each in networks]

    def separate() -> None:
        for training in trainings():
            training.alone(validation, settings)

    def together() -> None:
        Together(trainings(), validation, settings).fit()

    apart, joint = (
        _median_seconds(way, 3) / models / settings.epochs for way in (separate, together)
    )
    return {"models": models, "separate_ms": 1e3 * apart, "together_ms": 1e3 * joint,
            "ratio": apart / joint}  # fmt: skip


def _flop(network: Any, x: Any) -> float:
    """Forward floating-point operations of all convolutions for the batch ``x``."""
    import torch

    total = 0.0

    def count(module: Any, _: Any, output: Any) -> None:
        nonlocal total
        total += 2 * module.weight[0].numel() * output.numel()

    hooks = [
        module.register_forward_hook(count)
        for module in network.modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    network(x)
    for hook in hooks:
        hook.remove()
    return total


def _median_seconds(function: Any, times: int = 5) -> float:
    function()
    seconds = []
    for _ in range(times):
        # One thread: its processor time is the wall time of a machine without other jobs.
        begin = time.process_time()
        function()
        seconds.append(time.process_time() - begin)
    return statistics.median(seconds)


def reached(name: str, changes: list[str], repeats: int) -> dict[str, Any]:
    """Test AUC of real images: with a sweep's classifiers, and with ten times the training."""
    from pathlib import Path

    import torch

    from ensgan.config import load_spec
    from ensgan.downstream import MemoryBank, Strategy, needs_long_real, run_repeat
    from ensgan.sweep.classifier_job import LONGER, classifier_settings
    from ensgan.sweep.environment import real_data

    torch.set_num_threads(1)
    spec = load_spec(Path(name), settings=changes)
    dataset, settings = real_data(spec, None), classifier_settings(spec.evaluate)
    fixed: dict[str, Any] = {"dataset": dataset, "bank": MemoryBank({}), "seed": spec.seed}
    real = Strategy("real", kind="real")
    runs = [run_repeat(real, i, settings=settings, **fixed) for i in range(repeats)]
    found: dict[str, Any] = {"auc": [each.metrics["auc"] for each in runs]}
    if needs_long_real(runs):  # else no AUC, of at most 1, would leave the ratio below .97
        longer = run_repeat(real, 0, settings=settings.longer(LONGER), **fixed).metrics["auc"]
        found |= {"longer": longer, "ratio": statistics.mean(found["auc"]) / longer}
    shown = {key: getattr(settings, key) for key in ("width", "epochs", "images_per_epoch")}
    return {"sweep": name, **shown, **found}


def run(args: argparse.Namespace) -> dict[str, Any]:
    import torch

    if args.defaults:
        return {"defaults": [reached(name, args.set, args.repeats) for name in args.defaults]}
    # Workers inherit these: freed memory is kept for the next step and not given back.
    os.environ.update(MALLOC)
    os.environ["OMP_NUM_THREADS"] = "1"
    size = (args.width, args.images, args.epochs)
    plain, ours = [], []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.threads, mp_context=context) as workers:
        # Imports and first calls are no part of either side.
        list(
            workers.map(ours_once, *zip(*[(args.width, 64, 1, 0)] * 2 * args.threads, strict=True))
        )
        torch.set_num_threads(args.threads)
        plain_once(args.width, 64, 1, 0)
        for _ in range(args.rounds):
            begin = time.perf_counter()
            for repeat in range(args.repeats):
                plain_once(*size, repeat)
            plain.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            list(
                workers.map(
                    ours_once, *zip(*[(*size, r) for r in range(args.repeats)], strict=True)
                )
            )
            ours.append(time.perf_counter() - begin)
    trained = args.images * args.epochs * args.repeats
    p, o = statistics.median(plain), statistics.median(ours)
    return {
        "settings": vars(args),
        "load": os.getloadavg()[0],
        "plain_seconds": p,
        "ours_seconds": o,
        "plain_images_per_second": trained / p,
        "ours_images_per_second": trained / o,
        "ratio": p / o,
        "all_plain": plain,
        "all_ours": ours,
        "convolution": convolution_share(args.width),
        "vectorised": grouped_share(args.width),
    }


def show(result: dict[str, Any]) -> None:
    for row in result.get("defaults", ()):
        longer = f", longer {row['longer']:.3f}, ratio {row['ratio']:.3f}" if "ratio" in row else ""
        print(f"{row['sweep']}: {statistics.mean(row['auc']):.3f}{longer}")
    if "defaults" in result:
        return
    print(f"plain  {result['plain_seconds']:.2f} s  {result['plain_images_per_second']:.0f} img/s")
    print(f"ours   {result['ours_seconds']:.2f} s  {result['ours_images_per_second']:.0f} img/s")
    print(f"ratio  {result['ratio']:.2f}")
    share = result["convolution"]
    print(
        f"one thread: {share['network_gflops']:.1f} GFLOP/s in the step, "
        f"{share['share']:.0%} of one convolution's {share['convolution_gflops']:.1f}"
    )
    step = result["vectorised"]
    print(
        f"a step of a model: {step['separate_ms']:.0f} ms alone, {step['together_ms']:.0f} ms with "
        f"{step['models']} models in grouped convolutions ({step['ratio']:.2f}×)"
    )
