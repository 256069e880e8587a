"""Sweeps that join another's pool."""
