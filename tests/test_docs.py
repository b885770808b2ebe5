"""The pages say what is true: settings, routes, metrics and formats are the code's."""

import re
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from gateway.http.app import create_app
from gateway.images.formats import ACCEPTED_TEXT
from gateway.settings import Settings
from tests.fakes import FakeEncoder, FakeFetch, InlineDecoder

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SETTINGS = (ROOT / "gateway/settings.md").read_text()
HTTP = (ROOT / "gateway/http/README.md").read_text()
METRICS = (ROOT / "gateway/observe/README.md").read_text()
EMBEDDED = (ROOT / "deploy/embedded/README.md").read_text()


def row(name: str, field: FieldInfo) -> str:
    """A setting's line of the table."""
    default = "one a CPU" if field.default_factory else getattr(Settings.model_fields[name], "default", None)
    if isinstance(default, frozenset):
        default = ",".join(sorted(default)) or None
    shown = "" if default in (None, "") else f"`{default}`" if default != "one a CPU" else default
    return f"| `{field.validation_alias}` | {shown} | {field.description} |"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_settings_are_documented(name: str) -> None:
    assert row(name, Settings.model_fields[name]) in SETTINGS.splitlines()


def test_what_is_documented_is_read_somewhere() -> None:
    code = "".join(path.read_text() for room in ("gateway", "deploy") for path in (ROOT / room).rglob("*.py"))
    documented = set(re.findall(r"`(PE_[A-Z_]+)`", README + HTTP + METRICS + SETTINGS + EMBEDDED))
    assert len(documented) >= 8
    for name in documented:
        assert f'"{name}"' in code, name


def test_routes_are_documented() -> None:
    app = create_app(Settings(), FakeEncoder(), FakeFetch(), InlineDecoder())
    paths = set(app.openapi()["paths"]) | {"/docs", "/openapi.json"}
    assert len(paths) >= 12
    for path in paths:
        assert f"{path}`" in HTTP, path


def test_metrics_are_documented(exposition: str) -> None:
    names = set(re.findall(r"^# TYPE (pe_\w+) ", exposition, re.MULTILINE)) - {"pe_created"}
    assert len(names) >= 6
    for name in names:
        if not name.endswith("_created"):
            assert f"`{name}`" in METRICS, name


@pytest.fixture
def exposition() -> str:
    from prometheus_client import CollectorRegistry

    from gateway.observe.metrics import Metrics
    from gateway.observe.triton_metrics import TritonMetrics
    from gateway.texts.cache import TextCache

    registry = CollectorRegistry()
    TritonMetrics(registry)
    return Metrics(TextCache(0), registry).exposition().decode()


def test_formats_of_images_are_documented() -> None:
    assert f"Images may be {ACCEPTED_TEXT}." in HTTP
    assert f"\n{ACCEPTED_TEXT}." in (ROOT / "gateway/images/README.md").read_text()


def test_the_search_on_the_first_page_is_the_tested_one() -> None:
    """`tests/deploy/bulk/search/test_search_page.py` runs the commands of the page about searching."""
    page = (ROOT / "deploy/bulk/search/README.md").read_text()
    shown = re.findall(r"^(?:\.venv-bulk/bin/pe-.*|rank  .*|   \d  .*)$", README, re.MULTILINE)
    assert len(shown) == 6
    for line in shown:
        assert line in page.splitlines(), line


def test_the_first_page_is_short() -> None:
    assert len(README.splitlines()) <= 150
