import pytest

from gateway.triton.addresses import MAX_PATH_BYTES, Address, Entry, UnixSocket, parse, resolve


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8001", [Address("127.0.0.1", 8001, False)]),
        ("triton:8001", [Address("triton", 8001, False)]),
        (" a:1 , b:2,,a:1 ", [Address("a", 1, False), Address("b", 2, False)]),
        ("[::1]:8001", [Address("::1", 8001, False)]),
        ("dns:///triton.models.svc:8001", [Address("triton.models.svc", 8001, True)]),
        ("unix:/run/t.sock", [UnixSocket("/run/t.sock")]),
        ("unix:///run/t.sock:1,unix:/run/t.sock:1, a:1", [UnixSocket("/run/t.sock:1"), Address("a", 1, False)]),
        ("unix:/" + "x" * (MAX_PATH_BYTES - 1), [UnixSocket("/" + "x" * (MAX_PATH_BYTES - 1))]),
        ("dns:///a:1,a:1", [Address("a", 1, True), Address("a", 1, False)]),
    ],
)
def test_parse(text: str, expected: list[Entry]) -> None:
    assert parse(text) == expected
    assert parse(",".join(map(str, expected))) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", ",", "triton", "triton:", ":8001", "triton:x", "triton:0", "triton:65536", "::1:8001", "[::1]", "[x]:1"),
        *("http://triton:8001", "dns://8.8.8.8/triton:8001", "dns:///triton", "ipv4:1.2.3.4:5", "a b:1", "u@h:1"),
        *("unix:", "unix:/", "unix:t.sock", "unix://t.sock", "unix:/a b", "unix:/a%20b", "unix:/a?b", "unix:/a#b"),
        "unix:/" + "x" * MAX_PATH_BYTES,
    ],
)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


async def test_only_dns_entries_are_resolved() -> None:
    hosts = await resolve(parse("triton.invalid:1,dns:///127.0.0.1:2,dns:///[::1]:3,127.0.0.1:2,[::1]:4,unix:///a"))
    assert hosts == {
        "triton.invalid:1": "triton.invalid",
        "127.0.0.1:2": "127.0.0.1",
        "[::1]:3": "::1",
        "[::1]:4": "::1",
        "unix:/a": "localhost",
    }


async def test_the_host_of_a_resolved_target_is_its_name() -> None:
    """A certificate names it, and not the address."""
    assert set((await resolve(parse("dns:///localhost:1"))).values()) == {"localhost"}


async def test_a_name_that_does_not_resolve() -> None:
    with pytest.raises(OSError):
        await resolve(parse("dns:///triton.invalid:1"))
