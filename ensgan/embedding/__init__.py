"""Images to feature vectors."""

from ensgan.embedding.extractor import EXTRACTORS as EXTRACTORS
from ensgan.embedding.extractor import Extractor as Extractor
from ensgan.embedding.extractor import embed as embed
from ensgan.embedding.extractor import keep_features as keep_features
from ensgan.embedding.extractor import load_extractor as load_extractor
from ensgan.embedding.extractor import make_extractor as make_extractor
from ensgan.embedding.extractor import write_features as write_features
from ensgan.embedding.spec import ExtractorSpec, Preprocessing, Request
