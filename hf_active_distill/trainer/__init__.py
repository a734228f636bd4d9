"""The trainer, its configuration and its callbacks."""
