"""Where heads and bodies end, however their bytes arrive."""

import pytest

from gateway.http.framing import CHUNKED, Chunks, body_length, cannot_be_a_head, first_line, head_bounds

NEXT = b"GET / HTTP/1.1\r\n\r\n"


def test_a_head_ends_with_an_empty_line() -> None:
    assert head_bounds(b"GET / HTTP/1.1\r\na: b\r\n\r\nbody", 0) == (0, 24)
    assert head_bounds(b"GET / HTTP/1.1\r\na: b\r\n\r", 0) == (0, None)


def test_empty_lines_before_a_head_are_skipped() -> None:
    assert head_bounds(b"\r\n\r\n" + NEXT, 0) == (4, 4 + len(NEXT))
    assert head_bounds(b"x\r\n", 1) == (3, None)


def test_a_few_empty_lines_only() -> None:
    position, _ = head_bounds(b"\r\n" * 100_000 + NEXT, 0)
    assert position < 100


@pytest.mark.parametrize("beginning", [b"\x16\x03\x01", b" GET /", b"\n", b"\0", b"GET / HTTP/1.1\nHost: x\n\n"])
def test_what_cannot_become_a_head_is_known_early(beginning: bytes) -> None:
    assert cannot_be_a_head(beginning)


@pytest.mark.parametrize("beginning", [b"\r", b"G", b"GET / HTTP/1.1\r\nHost: x\r\n\r"])
def test_the_beginning_of_a_head_is_waited_for(beginning: bytes) -> None:
    assert not cannot_be_a_head(beginning)


def test_the_first_line_is_the_request_line() -> None:
    assert first_line(NEXT) == b"GET / HTTP/1.1"


@pytest.mark.parametrize(
    ("headers", "version"),
    [
        ([], "1.1"),
        ([(b"transfer-encoding", b"gzip, chunked")], "1.1"),
        ([(b"transfer-encoding", b"chunked")], "1.0"),
    ],
)
def test_framings_that_are_not_supported(headers: list[tuple[bytes, bytes]], version: str) -> None:
    assert body_length(headers, version) is None


def test_framings_that_are_supported() -> None:
    assert body_length([(b"host", b"x"), (b"content-length", b" 9 ")], "1.0") == 9
    assert body_length([(b"transfer-encoding", b"Chunked ")], "1.1") == CHUNKED


CHUNKS = [
    b"5\r\nabcde\r\n0\r\n\r\n",
    b"0\r\n\r\n",
    b"0\r\na: b\r\n\r\n",
    b"4\r\n\r\n\r\n\r\n0\r\n\r\n",
    b"5\r\n\r\n\r\n\r\r\n0\r\n\r\n",
    b"2\r\n\r\r\r\n1\r\n\n\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("size", range(1, 24))
def test_a_piece_never_goes_beyond_the_end_of_a_chunked_body(chunks: bytes, size: int) -> None:
    """Otherwise, the parser would begin the next request before the current one is answered."""
    assert len(chunks) in pieces_of(chunks + NEXT, size)


def pieces_of(data: bytes, size: int) -> list[int]:
    """Where the pieces end if the data arrives so many bytes at a time."""
    body = Chunks()
    ends: list[int] = []
    for start in range(0, len(data), size):
        arrived = data[start : start + size]
        position = 0
        while position < len(arrived):
            position = body.end_of_piece(arrived, position)
            ends.append(start + position)
    return ends


def test_overhead_is_bounded_whatever_the_body_was_before() -> None:
    body = Chunks()
    body.received(10**9)
    assert not body.has_too_much_overhead(10**9 + 10)
    assert not body.has_too_much_overhead(30_000)
    assert body.has_too_much_overhead(30_000)


def test_chunks_of_one_byte_are_no_overhead() -> None:
    body = Chunks()
    for _ in range(100_000):
        body.received(1)
        assert not body.has_too_much_overhead(len(b"1\r\nx\r\n"))
