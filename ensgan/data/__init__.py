"""Real image sets: MedMNIST, phantom, files of MedMNIST form."""

from ensgan.data.check import DataReport, check
from ensgan.data.registry import SOURCES, Source, load_dataset, names
from ensgan.data.request import DATA_VARIABLE, Option, data_root

__all__ = [
    "DATA_VARIABLE",
    "SOURCES",
    "DataReport",
    "Option",
    "Source",
    "check",
    "data_root",
    "load_dataset",
    "names",
]
