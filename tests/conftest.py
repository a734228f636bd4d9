"""Shared settings: one thread a process, no network, quiet libraries."""

import os


os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("MPLBACKEND", "Agg")
# The older transformers reports to every tracker that is installed.
os.environ.setdefault("WANDB_MODE", "disabled")


pytest_plugins = ["hub_server.fixtures"]
