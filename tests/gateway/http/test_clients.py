"""Who a request's client is."""

from typing import Any

import pytest

from gateway.http.clients import Clients
from gateway.http.keys import ApiKeys
from gateway.settings import ClientIdentity


def by_head(
    identity: ClientIdentity, address: str | None, query: bytes = b"", authorization: bytes = b"", keys: str = "k1 k2"
) -> Any:
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "query_string": query,
        "headers": [(b"authorization", authorization)],
        "client": (address, 1) if address else None,
    }
    return Clients(identity, ApiKeys(keys.split(), open_metrics=True)).by_head(scope)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("unknown", "unknown", True),
        ("unknown", "192.0.2.1", False),
    ],
)
def test_addresses(one: str, other: str, same: bool) -> None:
    assert (by_head("address", one) == by_head("address", other)) is same


def test_little_is_kept_of_what_is_no_address() -> None:
    """The header of a trusted proxy can have 64 kB, and thousands of clients are remembered."""
    assert len(by_head("address", "x" * 60_000)) == 64


def test_a_known_key_is_the_client_wherever_it_comes_from() -> None:
    key = by_head("key", "192.0.2.1", query=b"api_key=k1")
    assert by_head("key", "192.0.2.9", authorization=b"Bearer k1") == key
    assert by_head("key", "192.0.2.1", query=b"api_key=k2") != key
    assert ApiKeys(["k1"], open_metrics=True).check_body("k1") == key


def test_without_a_known_key_the_address_is_the_client() -> None:
    address = by_head("address", "192.0.2.1")
    assert by_head("key", "192.0.2.1") == address
    assert by_head("key", "192.0.2.1", query=b"api_key=invented") == address
    assert by_head("key", "192.0.2.1", query=b"api_key=k1", keys="") == address
    assert by_head("address", "192.0.2.1", query=b"api_key=k1") == address


def test_none_makes_all_clients_one() -> None:
    assert by_head("none", "192.0.2.1", query=b"api_key=k1") == by_head("none", "192.0.2.2")


def test_a_client_without_an_address() -> None:
    assert by_head("address", None) == by_head("address", None)


@pytest.mark.parametrize("identity", ["address", "none"])
def test_a_key_in_the_body_counts_only_where_keys_do(identity: ClientIdentity) -> None:
    keys = ApiKeys(["k1"], open_metrics=True)
    assert Clients(identity, keys).by_body(b"digest") is None
    assert Clients("key", keys).by_body(b"digest") == b"digest"
