"""Fixtures for every test: a Hub, and clients that reach it."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def _one_hub(tmp_path_factory):
    from .client import HubClient
    from .server import HubServer

    with HubServer(tmp_path_factory.mktemp("hub")) as hub:
        client = HubClient(hub.environment(tmp_path_factory.mktemp("hf_home")))
        yield hub, client
        client.close()


@pytest.fixture
def hub(_one_hub):
    """
    The session's [`HubServer`], without rules, requests or repositories of an earlier test. Its users are `me`, who is
    a member of `org`, and `other`.
    """
    hub, _ = _one_hub
    hub.forget()
    return hub


@pytest.fixture
def hub_client(hub, _one_hub):
    """Calls a function in a process whose `huggingface_hub`, `datasets` and `transformers` reach [`hub`] as `me`."""
    return _one_hub[1]
