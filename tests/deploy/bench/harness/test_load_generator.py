import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.bench.harness import load_generator
from deploy.bench.harness.load_generator import Answer, Spec, summary
from tests.gateway.tcp_server import tcp_server


@asynccontextmanager
async def server(status: int = 200, bodies: list[bytes] | None = None) -> AsyncIterator[int]:
    """Serve every request at once, and keep the bodies."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            if bodies is not None:
                bodies.append(body)
            if status == 0:
                break
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n".encode())
            writer.write(b"hello")

    async with tcp_server(serve) as port:
        yield port


async def run(port: int, tmp_path: Path, **spec: Any) -> dict[str, Any]:
    (tmp_path / "body").write_bytes(b'{"text": "@TEXT@"}')
    spec = {"path": "/", "concurrency": 4, "files": [str(tmp_path / "body")], "seconds": 0.2, **spec}
    return await load_generator._Run(Spec(url=f"http://127.0.0.1:{port}", **spec)).run()


async def test_a_closed_loop(tmp_path: Path) -> None:
    async with server() as port:
        result = await run(port, tmp_path, items=8)
    assert result["items_per_s"] > 0  # The tests of `summary` say what the rate is.
    assert result["items_in_all"] >= result["requests"] * 8 > 5 * 8
    assert result["errors"] == {}
    assert 0 < result["ms"]["p50"] <= result["ms"]["p99"]
    assert result["generator"]["cores"] > 0


async def test_a_number_of_requests(tmp_path: Path) -> None:
    bodies: list[bytes] = []
    async with server(bodies=bodies) as port:
        result = await run(port, tmp_path, requests=10, seconds=30)
    assert result["items_in_all"] == len(bodies) == 10


async def test_short_texts_take_the_place_of_their_mark(tmp_path: Path) -> None:
    bodies: list[bytes] = []
    (tmp_path / "short").write_bytes(b'{"text": "one @SHORT@ here"}')
    async with server(bodies=bodies) as port:
        await run(port, tmp_path, requests=4, seconds=30, files=[str(tmp_path / "short")], texts_from=3)
    expected = [
        f'{{"text": "one {text} here"}}'.encode() for text in itertools.islice(load_generator.short_texts(3), 4)
    ]
    assert sorted(bodies) == sorted(expected)


async def test_an_open_loop_keeps_its_rate(tmp_path: Path) -> None:
    async with server() as port:
        result = await run(port, tmp_path, rate=400.0, seconds=0.5, seed=1)
    assert result["items_in_all"] == pytest.approx(200, rel=0.3)


@pytest.mark.parametrize("status", [429, 0])
async def test_errors_are_counted_by_status(tmp_path: Path, status: int) -> None:
    async with server(status) as port:
        result = await run(port, tmp_path, requests=4, seconds=5)
    assert result["items_in_all"] == 0
    assert result["errors"] == {str(status): 4}


async def test_each_new_text_is_another(tmp_path: Path) -> None:
    bodies: list[bytes] = []
    async with server(bodies=bodies) as port:
        await run(port, tmp_path, requests=50, seconds=30, texts_from=7)
    assert len(set(bodies)) == 50


async def test_a_list_of_new_texts_repeats_none_either(tmp_path: Path) -> None:
    body = tmp_path / "list"
    body.write_bytes(b'["@TEXT@", "@TEXT@ at dusk"]')
    bodies: list[bytes] = []
    async with server(bodies=bodies) as port:
        await run(port, tmp_path, requests=20, seconds=30, texts_from=7, files=[str(body)])
    texts = [text for found in bodies for text in json.loads(found)]
    assert len(set(texts)) == len(texts) == 40
    assert all(text.endswith(" at dusk") for text in texts[1::2])


def test_headers_are_sent(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"{}")
    spec = Spec("http://127.0.0.1:1", "/", [str(tmp_path / "body")], 1, 1, headers={"Authorization": "Bearer a"})
    head, body = next(load_generator._requests(spec)).split(b"\r\n\r\n")
    assert b"Authorization: Bearer a" in head.split(b"\r\n")
    assert body == b"{}"


def test_starts_far_apart_have_no_text_in_common() -> None:
    first, second = (set(itertools.islice(load_generator.texts(start), 1000)) for start in (0, 60_000))
    assert len(first) == 1000
    assert not first & second


def test_what_warms_up_or_drains_does_not_count() -> None:
    answers = [Answer(ended, 0.1, 0.1, 200) for ended in (0.5, 1.5, 1.6, 2.5)]
    result = summary(answers, window=(1.0, 2.0), late=[0.0], cores=0.1, items=1, in_flight=None)
    assert (result["items_per_s"], result["items_in_all"]) == (2.0, 4)


@pytest.mark.parametrize("seconds", [4.9, 5.0, 5.6, 6.3])
def test_bursts_do_not_change_the_rate_of_a_closed_loop(seconds: float) -> None:
    answers = [Answer(1.6 * burst + 0.01 * i, 1.6, 1.6, 200) for burst in range(1, 5) for i in range(16)]
    result = summary(answers, (0.0, seconds), [0.0], 0.1, items=2, in_flight=16)
    assert result["items_per_s"] == pytest.approx(2 * 16 / 1.6)


def test_of_a_closed_loop_with_errors_the_good_answers_are_counted() -> None:
    answers = [Answer(1.0, 0.5, 0.5, 200), Answer(1.5, 0.001, 0.001, 429)]
    assert summary(answers, (0.0, 2.0), [0.0], 0.1, items=1, in_flight=1)["items_per_s"] == 0.5


async def test_a_cycle_is_from_answer_to_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Answer] = []

    def keep(answers: list[Answer], *_: object) -> dict[str, Any]:
        seen.extend(answers)
        return {}

    monkeypatch.setattr(load_generator, "summary", keep)
    async with server() as port:
        begun = asyncio.get_running_loop().time()
        await run(port, tmp_path, concurrency=1, requests=5, seconds=30)
        passed = asyncio.get_running_loop().time() - begun
    assert all(answer.cycle >= answer.seconds for answer in seen)
    assert sum(answer.cycle for answer in seen) == pytest.approx(seen[-1].ended - seen[0].ended + seen[0].seconds)
    assert sum(answer.cycle for answer in seen) < passed


@pytest.mark.parametrize(("busy", "late", "says"), [(0.1, 0.0001, ""), (0.97, 0.0, "of a core"), (0.1, 0.05, "late")])
def test_reports_when_it_is_the_bottleneck(busy: float, late: float, says: str) -> None:
    result = summary([Answer(1.5, 0.1, 0.1, 200)], (1.0, 2.0), [late], busy, 1, 1)
    assert says in result["generator"]["bottleneck"]
    assert bool(says) == bool(result["generator"]["bottleneck"])
