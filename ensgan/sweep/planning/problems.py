"""What would make a stage after the training fail, told before it."""

from __future__ import annotations

import numpy as np

from ensgan import downstream
from ensgan.config import SweepSpec
from ensgan.errors import DataError
from ensgan.sweep.member_job import sample_labels
from ensgan.types import Dataset


def rule_problems(spec: SweepSpec, dataset: Dataset) -> list[str]:
    """What was asked for by name and lacks what it judges by; one class alone is said later."""
    rule, floor = spec.select.rule, spec.score.consistency_floor is not None
    if floor and rule != "validated":
        return [f"score.consistency_floor: is for select.rule validated, not for {rule}"]
    named = "rule" in spec.select.model_fields_set and rule == "validated"
    try:
        if floor or (named and dataset.num_classes >= 2):
            downstream.check_dataset(dataset, ("train", "val"))
    except DataError as error:
        if floor:
            return [f"score.consistency_floor: needs classes to tell apart: {error}"]
        return [f"select.rule: validated needs images to validate with: {error}"]
    return []


def class_problems(spec: SweepSpec, dataset: Dataset) -> list[str]:
    """Classes with too few images to be scored by themselves."""
    if spec.score.classes == "joint" or dataset.num_classes < 2:
        return []
    real, needed = dataset.train.labels, spec.score.k + 1
    made = spec.sample.count or len(real)
    drawn = sample_labels(real, dataset.num_classes, made, spec.sample.labels, spec.seed)
    return [
        f"score.classes: per-class with k {spec.score.k} needs {needed} images of every class, and "
        f"there would be {count} {kind} of class {dataset.class_names[index]}: use joint or a "
        "smaller k"
        for kind, labels in (("real ones", real), ("generated ones", drawn))
        for index, count in enumerate(np.bincount(labels, minlength=dataset.num_classes).tolist())
        if count < needed
    ]
