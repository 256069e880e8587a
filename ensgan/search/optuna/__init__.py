"""Optuna: studies over a pool, and a sampler that brings the local search into their loop.

One binary parameter per member, named exactly as the member (``SNGAN@20000``): 1 takes it in.
"""

from ensgan.search.optuna.asking import Told, ask
from ensgan.search.optuna.sampler import EnsembleSampler
from ensgan.search.optuna.study import search_with_optuna
