"""Finished sweeps and handed-over ensembles, evaluated."""
