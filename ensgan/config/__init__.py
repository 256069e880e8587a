"""What a sweep is: a YAML file read strictly into a validated tree."""

from ensgan.config.external import ExternalSpec as ExternalSpec
from ensgan.config.load import KnownNames as KnownNames
from ensgan.config.load import load_spec as load_spec
from ensgan.config.load import parse_spec as parse_spec
from ensgan.config.load import read_setting as read_setting
from ensgan.config.load import read_spec_tree as read_spec_tree
from ensgan.config.spec import ClusterSpec as ClusterSpec
from ensgan.config.spec import EvaluateSpec as EvaluateSpec
from ensgan.config.spec import SampleSpec as SampleSpec
from ensgan.config.spec import ScoreSpec as ScoreSpec
from ensgan.config.spec import SearchSpec as SearchSpec
from ensgan.config.spec import SweepSpec as SweepSpec
