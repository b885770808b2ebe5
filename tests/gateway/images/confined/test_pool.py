"""The real processes. They decode, they are killed, and others take their places."""

import asyncio
import base64
import errno
import io
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from PIL import Image

from gateway.errors import InvalidImage, Overloaded
from gateway.images.confined import fork_server_process
from gateway.images.confined import pool as pool_module
from gateway.images.confined.messages import Limits
from gateway.images.confined.pool import DecodePool
from gateway.images.confined.worker_handle import WorkerHandle
from gateway.images.decode import PLUGINS
from gateway.images.decoder import LoadedSource
from gateway.images.sources import ArrayImage, Base64Image, EncodedImage
from gateway.in_flight import InFlightLimiter
from tests.fakes import InlineDecoder
from tests.pictures import HEIC

pytestmark = pytest.mark.slow

SIZE: Final = (24, 32)
MB: Final = 2**20


def picture(width: int = 64, height: int = 48, kind: str = "JPEG") -> bytes:
    colours = np.random.default_rng(width).integers(0, 256, (6, 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(colours).resize((width, height)).save(file, kind)
    return file.getvalue()


def endless_jpeg(side: int = 4_000, scans: int = 4_000) -> bytes:
    """A progressive JPEG of minutes: each scan goes over all blocks, and says in a few bytes that nothing changes."""

    def segment(marker: int, data: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data

    blocks = ((side + 7) // 8) ** 2
    tables = segment(0xC4, bytes([0x00, 1, *[0] * 15, 0])) + segment(0xC4, bytes([0x10, 0, 1, *[0] * 14, 0xE0]))
    head = (
        b"\xff\xd8"
        + segment(0xDB, bytes([0] + [1] * 64))
        + segment(0xC2, struct.pack(">BHHBBBB", 8, side, side, 1, 1, 0x11, 0))
        + tables
    )
    first = segment(0xDA, bytes([1, 1, 0x00, 0, 0, 0])) + bytes(blocks // 8 + 1)
    run = 2**15 - 1  # blocks in one end-of-band run: the code 0 (1 bit) and 14 bits
    bits = "".join(f"00{run - 2**14:014b}" for _ in range(blocks // run))
    bits += "1" * (-len(bits) % 8)
    data = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)).replace(b"\xff", b"\xff\0")
    return head + first + (segment(0xDA, bytes([1, 1, 0x00, 1, 63, 0])) + data) * scans + b"\xff\xd9"


PICTURE: Final = EncodedImage(picture())
ENDLESS: Final = EncodedImage(endless_jpeg())


class Pool(DecodePool):
    """With the reasons for which workers were lost, and with the processes that the kernel knows."""

    def __init__(self, size: int = 1, **limits: Any) -> None:
        self.lost: list[str] = []
        defaults = {"max_pixels": 100_000_000, "memory_bytes": 1_000 * MB, "cpu_seconds": 60}
        super().__init__(size, Limits(**(defaults | limits)), self.lost.append)

    @property
    def fork_server(self) -> int:
        assert self._server is not None
        return self._server.pid

    def processes(self) -> list[int]:
        return children(self.fork_server)


def children(parent: int) -> list[int]:
    tasks = Path(f"/proc/{parent}/task").iterdir()
    return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def is_first_to_be_killed(pid: int) -> bool:
    """Whether the kernel kills this process first when it has no memory left."""
    return Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def busy(pool: Pool, image: LoadedSource = ENDLESS) -> AsyncIterator[tuple[int, Awaitable[Any]]]:
    """The process that decodes an endless image, and the result. It is ended at last."""
    idle = {pid: cpu_seconds(pid) for pid in pool.processes()}
    task = asyncio.create_task(pool.decode(image, SIZE))
    found: list[int] = []

    def works() -> bool:
        found[:] = [pid for pid in pool.processes() if cpu_seconds(pid) > idle.get(pid, 0) + 0.05]
        return bool(found)

    await until(works)
    yield found[0], task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_worker_of_the_slow_lane_ends_after_its_image(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_CHECK_SECONDS", "_SLICE_SECONDS"):  # Every image is a slow one.
        monkeypatch.setattr(pool_module, name, 0.0)
    async with Pool() as pool:
        workers = pool.processes()
        await pool.decode(EncodedImage(picture(2_000, 2_000)), SIZE)
        await until(lambda: not set(workers) & set(pool.processes()))


async def test_clients_take_turns() -> None:
    """The one image of a client does not wait for all images of another."""
    limiter = InFlightLimiter(64, 2**20)
    decoded: list[str] = []

    async def decode(client: str) -> None:
        await pool.decode(PICTURE, SIZE)
        decoded.append(client)

    async with Pool() as pool:
        tasks = []
        for client, images in (("many", 20), ("one", 1)):
            with limiter.admit(lambda error: None, client):
                tasks += [asyncio.create_task(decode(client)) for _ in range(images)]
        await asyncio.gather(*tasks)
    assert decoded.index("one") == 2  # One image was in work, and it was one client's turn.


@pytest.mark.parametrize(
    "source",
    [
        PICTURE,
        EncodedImage(HEIC),
        *(EncodedImage(picture(kind=kind)) for kind in PLUGINS.values()),
        EncodedImage(picture(1_500, 1_000, "BMP")),  # is copied in several pieces
        Base64Image(base64.b64encode(picture(300, 200)).decode()),
        Base64Image("data:image/png;base64," + base64.urlsafe_b64encode(picture(kind="PNG")).decode().rstrip("=")),
        Base64Image(base64.b64encode(picture(1_500, 1_000, "BMP")).decode()),
        ArrayImage(base64.b64encode(pickle.dumps(np.arange(240, dtype=np.uint8).reshape(8, 10, 3))).decode()),
    ],
    ids=lambda source: type(source).__name__,
)
async def test_pixels_are_those_of_the_same_code_in_this_process(source: LoadedSource) -> None:
    async with Pool() as pool:
        for size in (SIZE, (336, 336)):
            decoded = await pool.decode(source, size)
            expected = await InlineDecoder().decode(source, size)
            np.testing.assert_array_equal(decoded.pixels, expected.pixels)
            assert min(decoded.queue_seconds, decoded.decode_seconds, decoded.preprocess_seconds) >= 0


async def test_the_limits_are_logged_once_and_not_with_each_new_process(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with Pool() as pool:
        for _ in range(3):
            await pool.decode(PICTURE, SIZE)
            (pid,) = pool.processes()
            os.kill(pid, signal.SIGKILL)
            await until(lambda gone=pid: gone not in pool.processes())  # type: ignore[misc]
    assert caplog.text.count("Images are decoded in processes with limits") == 1


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        (EncodedImage(b"no image"), "Data is not image."),
        (EncodedImage(picture()[:300]), "The JPEG image is damaged or incomplete."),
        (Base64Image("AAAA"), "Data is not image."),
        (Base64Image("not an image!"), "Malformed base64 input image."),
        (Base64Image("AAAAA"), "Malformed base64 input image."),
        (Base64Image("é" + "A" * 7), "Malformed base64 input image."),
        (Base64Image("\ud800"), "Malformed base64 input image."),
        (ArrayImage("AAAA"), "Could not deserialize pickle payload."),
        (EncodedImage(picture(101, 100, "PNG")), "The image has 101x100 pixels"),
    ],
)
async def test_a_bad_image_is_refused_and_costs_no_worker(source: LoadedSource, cause: str) -> None:
    async with Pool(max_pixels=10_000) as pool:
        before = pool.processes()
        with pytest.raises(InvalidImage) as raised:
            await pool.decode(source, SIZE)
        assert raised.value.cause.startswith(cause)
        await pool.decode(PICTURE, SIZE)
        assert pool.processes() == before


async def test_many_images_share_the_workers() -> None:
    async with Pool(size=2) as pool:
        sources = [EncodedImage(picture(16 + index, 16, "PNG")) for index in range(50)]
        decoded = await asyncio.gather(*[pool.decode(source, SIZE) for source in sources])
        for one, source in zip(decoded, sources, strict=True):
            np.testing.assert_array_equal(one.pixels, (await InlineDecoder().decode(source, SIZE)).pixels)
        assert len(pool.processes()) == 2


async def test_an_image_that_takes_too_long_is_refused_and_its_process_killed() -> None:
    async with Pool(cpu_seconds=0.3) as pool:
        with pytest.raises(InvalidImage, match=r"takes longer than 0\.3 seconds"):
            await pool.decode(ENDLESS, SIZE)
        assert pool.lost == ["time"]
        await pool.decode(PICTURE, SIZE)


async def test_a_crash_costs_one_image(caplog: pytest.LogCaptureFixture) -> None:
    async with Pool() as pool, busy(pool) as (pid, result):
        os.kill(pid, signal.SIGSEGV)
        with pytest.raises(InvalidImage, match="crashed"):
            await result
        assert pool.lost == ["crash"]
        await pool.decode(PICTURE, SIZE)
    assert "SIGSEGV" in caplog.text


async def test_a_process_that_the_kernel_kills_had_no_memory() -> None:
    async with Pool() as pool, busy(pool) as (pid, result):
        assert is_first_to_be_killed(pid)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(InvalidImage, match="does not fit into memory"):
            await result
        assert pool.lost == ["memory"]


async def test_a_limit_on_memory_costs_one_image_and_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_SLICE_SECONDS", 1_000)
    async with Pool(memory_bytes=100 * MB) as pool:
        before = pool.processes()
        with pytest.raises(InvalidImage, match="does not fit into memory"):
            await pool.decode(EncodedImage(picture(7_000, 7_000, "PNG")), SIZE)
        await pool.decode(PICTURE, SIZE)
        assert (pool.lost, pool.processes()) == ([], before)


async def test_a_large_image_leaves_no_memory_behind() -> None:
    async with Pool() as pool:
        before = pool.processes()
        decoded = await pool.decode(EncodedImage(picture(9_000, 9_000)), SIZE)
        assert decoded.pixels.shape == (*SIZE, 3)
        await pool.decode(PICTURE, SIZE)
        await until(lambda: len(pool.processes()) == 1)
        assert pool.processes() != before
        assert pool.lost == []


async def test_a_cancelled_image_is_given_up() -> None:
    async with Pool() as pool:
        async with busy(pool) as (pid, _):
            pass
        await until(lambda: pid not in pool.processes())
        assert pool.lost == ["cancelled"]
        await pool.decode(PICTURE, SIZE)


async def test_a_cancelled_image_that_is_done_soon_keeps_its_process() -> None:
    async with Pool() as pool:
        before = pool.processes()
        for _ in range(20):
            task = asyncio.create_task(pool.decode(PICTURE, SIZE))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await pool.decode(PICTURE, SIZE)
        assert (pool.processes(), pool.lost) == (before, [])


async def test_an_image_cancelled_while_it_waits_takes_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_SLICE_SECONDS", 1_000)
    async with Pool() as pool, busy(pool):
        waiting = [asyncio.create_task(pool.decode(PICTURE, SIZE)) for _ in range(2)]
        await asyncio.sleep(0.05)
        waiting[0].cancel()
        await asyncio.gather(waiting[0], return_exceptions=True)
        assert not waiting[1].done()
        for pid in pool.processes():
            os.kill(pid, signal.SIGKILL)
        await waiting[1]


async def test_honest_images_pass_endless_ones() -> None:
    async with Pool(size=1) as pool:
        endless = [asyncio.create_task(pool.decode(ENDLESS, SIZE)) for _ in range(4)]
        await asyncio.sleep(0.05)
        for _ in range(5):
            await pool.decode(PICTURE, SIZE)
        assert not any(task.done() for task in endless)
        assert pool.lost == []
        for task in endless:
            task.cancel()


async def test_a_full_slow_lane_gives_up_what_took_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_SLOW_BESIDE_SIZE", 0)
    monkeypatch.setattr(pool_module, "_PATIENCE_SECONDS", 0.2)
    async with Pool(size=1) as pool:
        endless = [asyncio.create_task(pool.decode(ENDLESS, SIZE)) for _ in range(2)]
        await asyncio.sleep(0.05)
        await pool.decode(PICTURE, SIZE)
        with pytest.raises(Overloaded, match="takes long to decode"):
            await endless[0]
        assert pool.lost == ["slow"]
        endless[1].cancel()


async def test_the_slow_lane_is_limited_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker may have 300 MB, so the slow lane 600. The size is injected: an image grows while it is decoded."""
    monkeypatch.setattr(WorkerHandle, "memory_bytes", lambda worker: 250 * MB)
    async with Pool(size=1, memory_bytes=300 * MB) as pool:
        endless = [asyncio.create_task(pool.decode(ENDLESS, SIZE)) for _ in range(3)]
        await until(lambda: len(pool._jobs) == 3)
        await asyncio.sleep(0.5)
        assert len(pool._slow) == 2
        for task in endless:
            task.cancel()


async def test_when_the_fork_server_ends_images_are_decoded_again(caplog: pytest.LogCaptureFixture) -> None:
    async with Pool() as pool, busy(pool) as (pid, _):
        waiting = asyncio.create_task(pool.decode(PICTURE, SIZE))
        server = pool.fork_server
        os.kill(server, signal.SIGKILL)
        await waiting
        assert pool.fork_server != server
        await until(lambda: not exists(pid))
        assert pool.lost == []
    assert "Starting it again" in caplog.text


async def test_no_process_outlives_the_pool() -> None:
    async with Pool(size=2) as pool:
        await asyncio.gather(*[pool.decode(PICTURE, SIZE) for _ in range(4)])
        processes = [pool.fork_server, *pool.processes()]
    await until(lambda: not any(map(exists, processes)))


async def test_signals_for_the_whole_group_do_not_end_the_workers() -> None:
    async with Pool() as pool:
        processes = [pool.fork_server, *pool.processes()]
        for pid in processes:
            for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                os.kill(pid, signum)
        await pool.decode(PICTURE, SIZE)
        assert [pool.fork_server, *pool.processes()] == processes


async def test_a_server_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_server_process, "_MODULE", "gateway.images.confined.missing")
    with pytest.raises(RuntimeError, match="did not start"):
        async with Pool():
            pass


async def test_a_process_that_cannot_be_started_is_an_overload(monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure is injected: the kernel cannot be made to refuse a fork to root."""
    async with Pool(size=2) as pool, busy(pool):
        monkeypatch.setattr(pool._server, "start_worker", lambda: pool.worker_not_started(errno.EAGAIN))
        with pytest.raises(Overloaded, match="cannot start"):
            await pool.decode(PICTURE, SIZE)


async def test_a_process_that_ends_before_it_is_confined_is_an_overload(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The end is injected: a process that is killed here may have said before that it is confined."""
    async with Pool(size=2) as pool, busy(pool):

        def start_worker() -> None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.setblocking(False)
            pool.worker_started(2**22 + 1, ours, os.memfd_create("test"))
            theirs.close()
            pool.worker_ended(2**22 + 1, signal.SIGKILL)

        monkeypatch.setattr(pool._server, "start_worker", start_worker)
        with pytest.raises(Overloaded, match="cannot start"):
            await pool.decode(PICTURE, SIZE)
    assert "Cannot start a process to decode images: it ended by SIGKILL." in caplog.text


async def test_a_worker_that_says_nonsense_is_killed() -> None:
    async with Pool() as pool, busy(pool) as (_, result):
        (worker,) = pool._jobs
        pool._received(worker, b"?")
        with pytest.raises(InvalidImage, match="crashed"):
            await result
        assert pool.lost == ["crash"]
        await pool.decode(PICTURE, SIZE)


def test_the_gateway_never_loads_a_decoder() -> None:
    program = "import sys, gateway.__main__; print(*{'PIL', 'cykooz_resizer', 'cv2'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
