"""What a sweep is going to be, and what it will cost."""
