"""What a student can be asked: explanations and the signals that strategies select by."""
