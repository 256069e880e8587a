"""ensgan: Pareto-optimal ensembles of GANs for faithful and diverse synthetic medical images."""

__version__ = "0.1.0"
