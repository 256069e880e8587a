"""Images to feature vectors."""

from ensgan.embedding.extractor import EXTRACTORS, Extractor, embed, load_extractor, make_extractor
from ensgan.embedding.spec import ExtractorSpec, Preprocessing, Request

__all__ = [
    "EXTRACTORS",
    "Extractor",
    "ExtractorSpec",
    "Preprocessing",
    "Request",
    "embed",
    "load_extractor",
    "make_extractor",
]
