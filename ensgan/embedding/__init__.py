"""Images to feature vectors."""

from ensgan.embedding.embed import embed
from ensgan.embedding.extractor import Extractor
from ensgan.embedding.registry import load_extractor, make_extractor, names

__all__ = ["Extractor", "embed", "load_extractor", "make_extractor", "names"]
