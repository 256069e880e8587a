"""What judges members by the validation split: a linear probe on the features of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ensgan import downstream, embedding
from ensgan.downstream import LabelConsistency, LabelledFeatures, LinearProbe
from ensgan.errors import DataError
from ensgan.files import content_key, map_array
from ensgan.sweep.inputs import Inputs
from ensgan.sweep.records import MemberResult
from ensgan.types import Float32Array, Samples, read_labels


@dataclass(frozen=True)
class Judge:
    """A probe and what it thinks of members' labels, or why there is none.

    Attributes:
        probe: None where nothing can be validated.
        consistency: of the members' labels; None with data that have no classes to tell apart.
        missing: why nothing can be validated, "" where it can.
    """

    probe: LinearProbe | None
    consistency: LabelConsistency | None
    missing: str = ""


def make_judge(inputs: Inputs, members: Sequence[MemberResult]) -> Judge:
    """Read the features of real and generated images; those of the validation split are made once.

    Raises:
        IntegrityError: images or features of a member have changed.
    """
    dataset = inputs.dataset.read()
    try:
        downstream.check_dataset(dataset, ("train", "val"))
    except DataError as error:
        return Judge(None, None, str(error).partition(":")[0])
    probe = LinearProbe(
        LabelledFeatures(_mapped(inputs.scoring.reference), dataset.train.labels),
        _validation(inputs, dataset.val),
        {member.name: _member(member) for member in members},
        dataset.num_classes,
    )
    consistency = probe.consistency()
    if consistency.tells:
        return Judge(probe, consistency)
    return Judge(
        None,
        consistency,
        f"the features ({inputs.spec.embed.extractor}) do not tell the classes of "
        f"{inputs.dataset.name} apart: a linear classifier of real images is right in "
        f"{consistency.real:.0%} of the validation split, by chance {consistency.real_chance:.0%}",
    )


def _member(member: MemberResult) -> LabelledFeatures:
    features = _mapped(member.unchanged("features"))
    # Another extractor may have seen the first images alone.
    return LabelledFeatures(features, read_labels(member.unchanged("samples"))[: len(features)])


def _validation(inputs: Inputs, val: Samples) -> LabelledFeatures:
    extractor = inputs.scoring.extractor_key
    path = inputs.folder.file("features", f"real-val-{content_key(val.key, extractor)}.npy")
    embedding.keep_features(
        path, lambda: val.images, lambda: embedding.load_extractor(inputs.scoring.extractor)
    )
    return LabelledFeatures(_mapped(path), val.labels)


def _mapped(path: Path) -> Float32Array:
    features: Float32Array = map_array(path, larger=True)
    return features
