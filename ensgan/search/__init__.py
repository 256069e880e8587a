"""The search for Pareto-optimal ensembles."""
