"""An ensemble without its sweep, evaluated on the user's own data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ensgan import embedding, metrics
from ensgan.config import parse_spec
from ensgan.ensemble import Ensemble
from ensgan.errors import DataError, InputError
from ensgan.evaluation.finished_sweep import FinishedSweep
from ensgan.files import content_key, map_array, sha256_file
from ensgan.search import Evaluator, pool_key
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.inputs import embedding_inputs
from ensgan.sweep.member_job import purpose_seed, sample_labels
from ensgan.sweep.records import DatasetFiles, MemberResult
from ensgan.types import Dataset, Front, PoolScores, Samples, Selection
from ensgan.zoo import GANSpec

RULE = "handed over"


def ensemble_folder(ensemble: Ensemble, dataset: Dataset, storage: Path) -> SweepFolder:
    """Where results of this ensemble on these data are kept."""
    key = content_key(sha256_file(ensemble.folder / "ensemble.json"), dataset.key)
    return SweepFolder(storage / "evaluations" / f"{dataset.name.replace('/', '_')}-{key}")


def open_handed_over(
    ensemble: Ensemble, dataset: Dataset, folder: SweepFolder, seed: int = 0
) -> FinishedSweep:
    """Draw images of the members, score them against the data, and take the whole as G*.

    Every member gets about as many images as the training split has, times its share of the
    ensemble. The pool is scored with the extractor ``random``.

    Args:
        ensemble: of two or more members.
        dataset: real data of the same image shape and classes.
        folder: keeps images and features.
        seed: of the images.

    Raises:
        DataError: images or classes of the ensemble are not those of the data.
        InputError: a single member.
    """
    spec = parse_spec({"name": "handed-over", "seed": seed, "dataset": {"name": dataset.name}})
    files = DatasetFiles.write(dataset, folder.path / "data")
    inputs = embedding_inputs(spec, dataset, files, folder)
    drawn = _drawn(ensemble, dataset, folder, inputs.scoring.extractor, seed)
    scores = metrics.score_pool(
        map_array(inputs.scoring.reference),
        [map_array(features) for _, features in drawn],
        ensemble.member_names,
        extractor=inputs.scoring.extractor_key,
    )
    evaluator = Evaluator(scores)
    point = evaluator.weighted_point(range(len(ensemble)), ensemble.weights)
    return FinishedSweep(
        folder=folder,
        spec=spec,
        dataset=files,
        members=_members(ensemble, drawn, scores),
        scores=scores,
        front=Front(
            objectives=tuple(axis.text for axis in evaluator.tables.axes),
            sampler=RULE,
            seed=seed,
            trials=1,
            distinct=1,
            seconds=0.0,
            hypervolume=0.0,
            points=(point,),
            pool=pool_key(scores),
            named_form=evaluator.tables.form,
        ),
        selected=Selection(
            RULE, point, f"the ensemble in {ensemble.folder.name}, with its own weights"
        ),
        rows={
            entry.name: GANSpec.from_json(entry.gan)
            for entry in ensemble.manifest.members
            if entry.gan is not None
        },
    )


def check_fits(ensemble: Ensemble, dataset: Dataset) -> None:
    """Refuse an ensemble of other images or classes than the data.

    Raises:
        DataError: it is.
        InputError: it has a single member.
    """
    if ensemble.shape != dataset.shape:
        ours, theirs = ensemble.shape, dataset.shape
        raise DataError(
            f"the ensemble makes images of {ours.size}×{ours.size} with {ours.channels} "
            f"channel(s), those of {dataset.name} are {theirs.size}×{theirs.size} with "
            f"{theirs.channels}: evaluate it on data like those it was trained on"
        )
    # Data without names for their classes call them 0, 1, …
    unnamed = all(name.isdigit() for name in dataset.class_names)
    same = len(ensemble.class_names) == dataset.num_classes
    if not same or (not unnamed and ensemble.class_names != dataset.class_names):
        raise DataError(
            f"the ensemble makes the classes {', '.join(ensemble.class_names)}, {dataset.name} "
            f"has {', '.join(dataset.class_names)}: evaluate it on data with its own classes"
        )
    if len(ensemble) < 2:
        raise InputError("the ensemble has a single member: there is nothing to compare")


def _drawn(
    ensemble: Ensemble, dataset: Dataset, folder: SweepFolder, extractor: Path, seed: int
) -> list[tuple[Path, Path]]:
    """Files with the images and the features of every member, drawn once."""
    paths = [
        (
            folder.file("samples", f"{name}-{seed}.npz"),
            folder.file("features", f"{name}-{seed}.npy"),
        )
        for name in ensemble.member_names
    ]
    if not all(path.exists() for pair in paths for path in pair):
        count = len(dataset.train) * len(ensemble)
        seeds = purpose_seed(seed, "handed over")
        labels = sample_labels(dataset.train.labels, dataset.num_classes, count, "training", seeds)
        # Members are drawn at random, so a bank may be asked for a few more images than it has.
        drawn = ensemble.sample(count, labels, seeds, replacement=True)
        assert drawn.members is not None
        network = embedding.load_extractor(extractor)
        for index, (images_path, features_path) in enumerate(paths):
            rows = np.flatnonzero(drawn.members == index)
            samples = Samples(drawn.images[rows], drawn.labels[rows])
            samples.save(images_path)
            embedding.write_features(features_path, samples.images, network)
    return paths


def _members(
    ensemble: Ensemble, drawn: Sequence[tuple[Path, Path]], scores: PoolScores
) -> tuple[MemberResult, ...]:
    manifest = ensemble.manifest
    return tuple(
        MemberResult(
            name=entry.name,
            weights=ensemble.folder / entry.file,
            sha256=manifest.files[entry.file].sha256,
            samples=samples,
            features=features,
            density=float(scores.density[index]),
            coverage=float(scores.coverage[index]),
            intra_d=float(scores.intra_d[index]),
            metrics={},
            health=(),
            seconds={},
            work=(),
        )
        for index, (entry, (samples, features)) in enumerate(
            zip(manifest.members, drawn, strict=True)
        )
    )
