from typing import Any

import pytest
from pydantic import ValidationError

from gateway.settings import Settings


def test_the_incumbents_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "HOST": "127.0.0.1",
        "PORT": "9002",
        "PERCEPTION_ENCODER_VERSION_ID": "PE-Core-B16-224",
        "CLIP_MAX_BATCH_SIZE": "8",
        "ALLOW_URL_INPUT": "False",
        "ALLOW_ORIGINS": "https://a.example, https://b.example,",
        "WHITELISTED_DESTINATIONS_FOR_URL_INPUT": "a.example",
        "BLACKLISTED_DESTINATIONS_FOR_URL_INPUT": "b.example,c.example",
        "MAX_IMAGE_URL_REDIRECTS": "1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert (settings.host, settings.port, settings.max_items) == ("127.0.0.1", 9002, 8)
    assert settings.text_limit == 8
    assert settings.default_variant == "PE-Core-B16-224"
    assert not settings.allow_url_input
    assert settings.allow_origins == {"https://a.example", "https://b.example"}
    assert settings.allowed_hosts == {"a.example"}
    assert settings.denied_hosts == {"b.example", "c.example"}
    assert settings.max_redirects == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, 2048),
        ({"CLIP_MAX_BATCH_SIZE": "64"}, 64),
        ({"CLIP_MAX_BATCH_SIZE": "4096"}, 2048),
        ({"PE_MAX_TEXTS": "9"}, 9),
    ],
)
def test_the_incumbents_limit_binds_texts_where_it_is_given(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], expected: int
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert Settings().text_limit == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "x"),
        ("PORT", "70000"),
        ("PE_MAX_IN_FLIGHT", "0"),
        ("PE_DEADLINE_SECONDS", "-1"),
        ("ALLOW_URL_INPUT", "?"),
    ],
)
def test_an_invalid_value_is_reported_with_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as raised:
        Settings()
    assert raised.value.errors()[0]["loc"] == (name,)


def test_a_body_of_the_largest_size_fits_into_the_byte_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PE_MAX_BODY_BYTES", "1000")
    monkeypatch.setenv("PE_MAX_BYTES_IN_FLIGHT", "1000")
    assert Settings().max_bytes_in_flight == 1000
    monkeypatch.setenv("PE_MAX_BYTES_IN_FLIGHT", "999")
    with pytest.raises(ValidationError, match="PE_MAX_BYTES_IN_FLIGHT is less than PE_MAX_BODY_BYTES"):
        Settings()


def test_an_empty_variable_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose and Kubernetes make empty variables of what is not set."""
    defaults = Settings()
    for field in Settings.model_fields.values():
        if field.validation_alias != "ALLOW_ORIGINS":
            monkeypatch.setenv(str(field.validation_alias), " ")
    assert Settings() == defaults
    assert Settings().text_limit == defaults.text_limit
    monkeypatch.setenv("ALLOW_ORIGINS", "")
    assert Settings().allow_origins == frozenset()


def test_white_space_around_a_value_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ALLOW_NUMPY_INPUT": "true ", "PE_LOG_FORMAT": " json", "PE_ROOT_PATH": "/a\r\n"}.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert (settings.allow_numpy_input, settings.log_format, settings.root_path) == (True, "json", "/a")


@pytest.mark.parametrize(("given", "path"), [("/a/b", "/a/b"), ("/a/", "/a"), ("a/b/", "/a/b"), ("/", ""), ("", "")])
def test_slashes_around_the_path_prefix_do_not_matter(monkeypatch: pytest.MonkeyPatch, given: str, path: str) -> None:
    monkeypatch.setenv("PE_ROOT_PATH", given)
    assert Settings().root_path == path


def test_settings_are_frozen() -> None:
    settings: Any = Settings()
    with pytest.raises(ValidationError):
        settings.port = 1


def test_every_setting_has_a_description() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.validation_alias, name
