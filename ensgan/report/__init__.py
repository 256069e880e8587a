"""What is recorded of a sweep, and how it is shown: runs of a store, plots, pages."""
