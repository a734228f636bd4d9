"""One small protocol, many doors."""
