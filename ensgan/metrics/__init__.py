"""Density, coverage and the other measures between sets of feature vectors."""
