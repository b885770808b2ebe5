import pytest

from gateway.triton.addresses import Address, parse, resolve


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8001", [Address("127.0.0.1", 8001, False)]),
        ("triton:8001", [Address("triton", 8001, False)]),
        (" a:1 , b:2,,a:1 ", [Address("a", 1, False), Address("b", 2, False)]),
        ("[::1]:8001", [Address("::1", 8001, False)]),
        ("dns:///triton.models.svc:8001", [Address("triton.models.svc", 8001, True)]),
        ("dns:///a:1,a:1", [Address("a", 1, True), Address("a", 1, False)]),
    ],
)
def test_parse(text: str, expected: list[Address]) -> None:
    assert parse(text) == expected
    assert parse(",".join(map(str, expected))) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", ",", "triton", "triton:", ":8001", "triton:x", "triton:0", "triton:65536", "::1:8001", "[::1]", "[x]:1"),
        *("http://triton:8001", "dns://8.8.8.8/triton:8001", "dns:///triton", "ipv4:1.2.3.4:5", "a b:1", "u@h:1"),
    ],
)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


async def test_only_dns_entries_are_resolved() -> None:
    targets = await resolve(parse("triton.invalid:1,dns:///127.0.0.1:2,dns:///[::1]:3,127.0.0.1:2"))
    assert targets == ["triton.invalid:1", "127.0.0.1:2", "[::1]:3"]
    with pytest.raises(OSError):
        await resolve(parse("dns:///triton.invalid:1"))
