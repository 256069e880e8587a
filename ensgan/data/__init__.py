"""Real image sets: MedMNIST, phantoms, folders of images, files of MedMNIST form."""

from ensgan.data.check import DataReport, check
from ensgan.data.registry import DATASETS, load_dataset, locate, names
from ensgan.data.request import Option, Source
