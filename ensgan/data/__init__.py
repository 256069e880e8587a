"""Real image sets: MedMNIST, phantoms, folders of images, files of MedMNIST form."""

from ensgan.data.check import DataReport as DataReport
from ensgan.data.check import check as check
from ensgan.data.registry import DATASETS as DATASETS
from ensgan.data.registry import load_dataset as load_dataset
from ensgan.data.registry import locate as locate
from ensgan.data.registry import names as names
from ensgan.data.request import DATA_VARIABLE as DATA_VARIABLE
from ensgan.data.request import Option as Option
from ensgan.data.request import Source as Source
from ensgan.data.request import data_root as data_root
