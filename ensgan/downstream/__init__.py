"""The classifier that proves an ensemble."""
