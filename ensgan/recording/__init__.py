"""What is recorded of a sweep, and how it is shown."""
