"""Shared settings: one thread a process, no network, quiet libraries."""

import os

import pytest


os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("MPLBACKEND", "Agg")
# The older transformers reports to every tracker that is installed.
os.environ.setdefault("WANDB_MODE", "disabled")


pytest_plugins = ["hub_server.fixtures"]


@pytest.fixture(autouse=True)
def _settings_of_one_test():
    """transformers 4 leaves a run's precision in the environment, where the next run finds it."""
    before = {name: value for name, value in os.environ.items() if name.startswith("ACCELERATE_")}
    yield
    for name in [name for name in os.environ if name.startswith("ACCELERATE_")]:
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _names_of_one_test(monkeypatch):
    """What a test registers ends with it: the next one asks for everything by name."""
    # Imported here, for the settings above come before any library.
    from hf_active_distill.annotation import registry as annotations
    from hf_active_distill.selection import registry as strategies
    from hf_active_distill.tasks import registry as tasks

    for module, names in ((annotations, "_METHODS"), (strategies, "_STRATEGIES"), (tasks, "_TASKS")):
        monkeypatch.setattr(module, names, dict(getattr(module, names)))
