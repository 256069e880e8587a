"""What a sweep will cost, and when it must stop."""
