"""Real image sets: MedMNIST, phantoms, folders of images, files of MedMNIST form."""

from ensgan.data.check import DataReport, check
from ensgan.data.registry import DATASETS, load_dataset, locate, names
from ensgan.data.request import DATA_VARIABLE, Option, Source, data_root

__all__ = [
    "DATASETS",
    "DATA_VARIABLE",
    "DataReport",
    "Option",
    "Source",
    "check",
    "data_root",
    "load_dataset",
    "locate",
    "names",
]
