"""What is asked of a teacher about one row."""
