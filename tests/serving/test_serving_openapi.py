"""The server against its own OpenAPI description: no 5xx, no answer that is not in it."""

import json

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import checks
from serving_helpers import WordBackend, call, serve

from hf_active_distill.serving.app import build_app
from hf_active_distill.serving.openapi import openapi_description


DESCRIPTION = openapi_description()
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
schema = schemathesis.openapi.from_dict(DESCRIPTION)


@pytest.fixture(scope="module")
def url():
    with serve(WordBackend(), max_concurrent_requests=8) as address:
        yield address


@schema.parametrize()
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_answer_is_described(case, url):
    case.call_and_validate(base_url=url, checks=CHECKS)


def test_every_route_is_described():
    app = build_app(WordBackend())
    served = {(route.path, method.lower()) for route in app.routes for method in route.methods if method != "HEAD"}
    described = {(path, method) for path, methods in DESCRIPTION["paths"].items() for method in methods}
    assert served == described


def test_the_description_is_served_without_a_token():
    with serve(WordBackend(), api_key="secret") as address:
        status, _, body = call(f"{address}/openapi.json")
        assert status == 200 and json.loads(body) == DESCRIPTION
        assert call(f"{address}/generate", {"inputs": "What"})[0] == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"inputs": "What is"}, 200),
        ({"inputs": "What is", "parameters": {"top_n_tokens": 9}}, 422),
        ({"inputs": "fail"}, 424),
        ({"inputs": 7}, 422),
    ],
)
def test_answers_that_are_rarely_drawn(body, status, url):
    """A walk at random seldom meets these; each stands in the description too."""
    case = schema["/generate"]["POST"].Case(body=body, media_type="application/json")
    response = case.call(base_url=url)
    assert response.status_code == status
    case.validate_response(response, checks=CHECKS)
