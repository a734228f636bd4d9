"""Which rows to ask about: strategies over student signals."""
