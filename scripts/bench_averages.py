"""What a short training's average of its generator is worth: warmed up, as published, or none.

One training carries all three side by side, so that they average the very same generator, and each
is scored along the way: Intra-d with densities capped at 1, and the Fréchet distance, of random
features.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ensgan import embedding, metrics, zoo
from ensgan.data import load_dataset
from ensgan.sweep.member_job import sample_labels
from ensgan.train import TrainSettings
from ensgan.train.state import AveragedGenerator, Record
from ensgan.train.training import Training, full_step
from ensgan.types import Dataset, harmonic_mean


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", default="BigGAN-DiffAug", help="GANs, separated by commas")
    parser.add_argument("--dataset", default="pneumoniamnist")
    parser.add_argument("--data-dir", type=Path, default=None)
    parser.add_argument("--width", type=float, default=1 / 16)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=2.0)
    parser.add_argument("--looks", type=int, default=3, help="times that averages are scored")
    parser.add_argument("--images", type=int, default=1000)


def data_and_scores(
    name: str, data_dir: Path | None, count: int
) -> tuple[Dataset, Callable[[zoo.Generator], dict[str, float]]]:
    """A data set, and what scores so many images of a generator against it."""
    options = {"accept_checksum": "any"} if name.endswith("mnist") else {}
    dataset = load_dataset(name, root=data_dir, image_size=32, options=options)
    with tempfile.TemporaryDirectory() as cache:
        extractor = embedding.make_extractor("random", dataset=dataset, seed=0, cache=Path(cache))
    real = embedding.embed(dataset.train.images, extractor).features
    reference = metrics.prepare(real, 5)
    labels = sample_labels(dataset.train.labels, dataset.num_classes, count, "training", seed=1)

    def scored(generator: zoo.Generator) -> dict[str, float]:
        features = embedding.embed(zoo.sample(generator, labels, seed=2), extractor).features
        score = metrics.score_member(reference, features)
        return {
            "Intra-d": float(score.d),
            "capped Intra-d": float(harmonic_mean(np.minimum(score.density, 1), score.coverage)),
            "Fréchet distance": metrics.frechet_distance(real, features),
        }

    return dataset, scored


def run(args: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    dataset, scored = data_and_scores(args.dataset, args.data_dir, args.images)

    found = []
    for name in args.rows.split(","):
        spec = zoo.get(name).scaled(args.width)
        settings = TrainSettings(
            args.steps,
            args.looks,
            seed=0,
            batch=args.batch,
            d_updates=1,
            learning_rate=args.learning_rate,
            fake_labels="training",
        )
        training = Training(spec, dataset.train, dataset.num_classes, settings)
        published = AveragedGenerator(training.generator, spec.ema, training.batch)
        averages = {
            "none": training.generator,
            "row": published.generator,
            "fitted": training.average.generator,
        }
        record = Record(name)
        while training.step < args.steps:
            published_step = training.step
            full_step(training, record)
            published.update(published_step)
            record.step_means()
            if training.step % settings.spacing == 0:
                for average, generator in averages.items():
                    row = {"gan": name, "step": training.step, "average": average}
                    found.append({**row, **scored(generator)})
    return {"settings": {k: str(v) for k, v in vars(args).items()}, "averages": found}


def show(result: dict[str, Any]) -> None:
    for row in result["averages"]:
        print(
            f"{row['gan']:16} step {row['step']:6} {row['average']:7} capped Intra-d "
            f"{row['capped Intra-d']:.3f}  Fréchet distance {row['Fréchet distance']:.3f}"
        )
