"""The page, open at each of its tabs."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from tests.browsing import Visit
from tests.e2e.page.actions import ready


@pytest.fixture
def compare(visit: Callable[..., Visit], base_url: str) -> Page:
    """The tab Compare, with the scores of its first sample."""
    page = visit(base_url).page
    page.wait_for_selector(".best")
    return page


@pytest.fixture
def search(visit: Callable[..., Visit], base_url: str) -> Page:
    """The tab Search, without pictures."""
    return ready(visit(f"{base_url}/#search").page)


@pytest.fixture
def classify(visit: Callable[..., Visit], base_url: str) -> Page:
    """The tab Classify, without pictures."""
    return ready(visit(f"{base_url}/#classify").page)
