"""What is found out about a pool by classifiers before G* is chosen from it."""
