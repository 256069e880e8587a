"""What a sweep will cost."""
