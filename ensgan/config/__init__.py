"""What a sweep is: a YAML file read strictly into a validated tree."""

from __future__ import annotations

from ensgan.config.load import KnownNames, load_spec, parse_spec, read_tree, read_yaml
from ensgan.config.spec import (
    ClusterSpec,
    EvaluateSpec,
    ExternalSpec,
    SampleSpec,
    SearchSpec,
    SweepSpec,
    TrackSpec,
    TrainSpec,
)
from ensgan.config.vary import GanOverrides

__all__ = [
    "ClusterSpec",
    "EvaluateSpec",
    "ExternalSpec",
    "GanOverrides",
    "KnownNames",
    "SampleSpec",
    "SearchSpec",
    "SweepSpec",
    "TrackSpec",
    "TrainSpec",
    "load_spec",
    "parse_spec",
    "read_tree",
    "read_yaml",
]
