"""A sweep while it runs: what its trials tell, what others ask of it, who comes next."""
