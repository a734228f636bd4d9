"""One tiny model, and one server over it, for all who talk to a real model."""

import pytest
from helpers_models import tiny_model, tiny_tokenizer
from serving_helpers import serve

from hf_active_distill.engine.continuous import TransformersBackend


@pytest.fixture(scope="session")
def tokenizer():
    return tiny_tokenizer(chat=True)


@pytest.fixture(scope="session")
def model():
    return tiny_model("llama")


@pytest.fixture(scope="session")
def backend(model, tokenizer):
    served = TransformersBackend(model, tokenizer, model_id="tiny")
    yield served
    served.close()


@pytest.fixture(scope="session")
def url(backend):
    """What every client is tried on: the hub's, TGI's own and OpenAI's."""
    with serve(backend) as address:
        yield address
