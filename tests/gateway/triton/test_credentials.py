"""What the settings for TLS and headers may be."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from gateway.triton import credentials
from gateway.triton.channel import Access
from tests.tools import find_tool


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A certificate that signs itself, its key, another key, an encrypted key, and a file without PEM."""
    folder = tmp_path_factory.mktemp("pem")
    found = {name: folder / name for name in ("certificate", "key", "other_key", "encrypted_key", "text", "none")}
    openssl = find_tool("openssl")
    new = ["req", "-x509", "-newkey", "rsa:2048", "-days", "1", "-subj", "/CN=a"]
    for command in (
        [*new, "-nodes", "-keyout", found["key"], "-out", found["certificate"]],
        [*new, "-nodes", "-keyout", found["other_key"], "-out", folder / "unused"],
        ["rsa", "-aes256", "-passout", "pass:x", "-in", found["key"], "-out", found["encrypted_key"]],
    ):
        subprocess.run([str(openssl), *map(str, command)], check=True, capture_output=True)
    found["text"].write_text("no certificate")
    return found


def load(**given: Any) -> Access:
    none: dict[str, Any] = {"ca": None, "certificate": None, "key": None, "server_name": None, "headers": ""}
    return credentials.load(**({"tls": False} | none | given))


def test_plain_text_by_default() -> None:
    assert load() == Access()


def test_tls_with_public_authorities() -> None:
    assert load(tls=True).credentials is not None


def test_tls_with_all_files(files: dict[str, Path]) -> None:
    certificate, key = files["certificate"], files["key"]
    found = load(tls=True, ca=certificate, certificate=certificate, key=key, server_name="triton")
    assert found.credentials is not None
    assert found.server_name == "triton"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"tls": False, "ca": "certificate"}, "PE_TRITON_CA_FILE is set, and PE_TRITON_TLS is not"),
        ({"tls": False, "key": "key"}, "PE_TRITON_KEY_FILE is set, and PE_TRITON_TLS is not"),
        ({"certificate": "certificate"}, "belong together; one is missing"),
        ({"key": "key"}, "belong together; one is missing"),
        ({"ca": "none"}, "PE_TRITON_CA_FILE: .* cannot be read: No such file"),
        ({"ca": "text"}, "PE_TRITON_CA_FILE: no certificate in PEM is in "),
        ({"ca": "key"}, "PE_TRITON_CA_FILE: no certificate in PEM is in "),
        ({"certificate": "certificate", "key": "none"}, "PE_TRITON_KEY_FILE: .* cannot be read: No such file"),
        ({"certificate": "text", "key": "key"}, "are not a certificate and its key in PEM"),
        ({"certificate": "certificate", "key": "other_key"}, "KEY_VALUES_MISMATCH"),
        ({"certificate": "certificate", "key": "encrypted_key"}, "without a passphrase"),
    ],
)
def test_what_is_refused(files: dict[str, Path], settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        load(**{name: files.get(value, value) for name, value in ({"tls": True} | settings).items()})


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        ("", ()),
        ("a=b", (("a", "b"),)),
        (" Triton-grpc-Protocol-K = v=w , x.y_z=1,", (("triton-grpc-protocol-k", "v=w"), ("x.y_z", "1"))),
    ],
)
def test_headers(text: str, headers: tuple[tuple[str, str], ...]) -> None:
    assert load(headers=text).headers == headers


@pytest.mark.parametrize(
    "text", ["secret", "a=", "=secret", "a b=secret", "\u00e4=secret", "a=\u00e4", "a=b\x07c", "a-bin=b"]
)
def test_an_invalid_header_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ValueError, match="PE_TRITON_HEADERS is name=value") as error:
        load(headers=text)
    assert "secret" not in str(error.value)
