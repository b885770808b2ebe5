"""Fixtures: the app with fakes, called in process."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from starlette.testclient import TestClient

from gateway.http.app import create_app
from gateway.settings import Settings
from tests.fakes import FakeEncoder, FakeFetch, InlineDecoder

MakeClient = Callable[..., TestClient]


@pytest.fixture
def make_client() -> Iterator[MakeClient]:
    """Create the client of a running app. Settings are given by field name."""
    with ExitStack() as stack:

        def make(encoder: FakeEncoder | None = None, fetch: FakeFetch | None = None, **settings: object) -> TestClient:
            app = create_app(
                Settings.model_validate(settings), encoder or FakeEncoder(), fetch or FakeFetch(), InlineDecoder()
            )
            return stack.enter_context(TestClient(app, raise_server_exceptions=False))

        yield make


@pytest.fixture
def client(make_client: MakeClient) -> TestClient:
    return make_client()
