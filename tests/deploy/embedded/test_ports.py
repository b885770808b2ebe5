import socket

import pytest

from deploy.embedded import ports
from deploy.embedded.errors import AddressUnusable, PortTaken


def test_free_ports_are_distinct_and_bindable() -> None:
    found = ports.free(20)
    assert len(set(found)) == 20
    for port in found:
        with socket.socket() as listener:
            listener.bind((ports.LOOPBACK, port))


def test_free_ports_keep_clear_of_outgoing_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_first_ephemeral", lambda: 23_000)
    assert all(20_000 <= port < 23_000 for port in ports.free(50))


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost", "::"])
def test_a_port_that_another_listens_on_is_taken(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTaken):
            ports.require_bindable(host, port)
    ports.require_bindable(host, port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_an_address_of_another_machine_is_unusable(host: str) -> None:
    with pytest.raises(AddressUnusable):
        ports.require_bindable(host, 9001)
