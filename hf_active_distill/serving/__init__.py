"""The TGI-compatible teacher server for development."""
