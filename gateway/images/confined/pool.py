"""Give images to confined workers, kill workers that take too long, and start others.

Each gateway process has a fork server and workers of its own. Where images wait for a worker, their clients take turns.

An image that has used `_SLICE_SECONDS` of CPU time moves to the slow lane: it continues with a lower priority, and
another worker takes its place. So images that take seconds do not delay the others. The slow lane is limited in number
and memory. If it is full and others wait, the image there that has used the most time is given up, but not before
`_PATIENCE_SECONDS`.

All limits count CPU time, because a busy machine would make an honest image exceed any limit by the clock. The clock's
limit is the request's deadline.
"""

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from gateway.errors import GatewayError, InvalidImage, Overloaded
from gateway.images.confined.confinement import Confinement
from gateway.images.confined.fork_server_process import ForkServerProcess
from gateway.images.confined.messages import RESULT, Limits, Outcome
from gateway.images.confined.worker_handle import WorkerHandle
from gateway.images.decoder import NO_MEMORY, Decoded, LoadedSource
from gateway.in_flight import requester
from gateway.turns import Turns

# A photograph of 12 megapixels takes about as long. Most images take a few milliseconds.
_SLICE_SECONDS: Final = 0.1
_PATIENCE_SECONDS: Final = 1.0
_SLOW_BESIDE_SIZE: Final = 8
_NICENESS: Final = 5  # a third of the ordinary share of a busy CPU
_CHECK_SECONDS: Final = 0.05
# An image whose request was cancelled is given up if it has taken so long. A new worker costs more than most images.
_ABANDONED_SECONDS: Final = 0.1
_START_SECONDS: Final = 60.0
_SECONDS_BETWEEN_STARTS: Final = 1.0

_BUSY: Final = "The server is busy, and an image takes long to decode. Try again in a moment."
_NO_WORKER: Final = "The server cannot start a process to decode images now. Try again in a moment."
_CRASHED: Final = "The decoder crashed on the image."

# The gateway's own kills are not among these: SIGKILL comes from a kernel without memory, SIGXCPU from `RLIMIT_CPU`.
_REASONS: Final = {int(signal.SIGKILL): "memory", int(signal.SIGXCPU): "time"}

_log = logging.getLogger(__name__)


class _ServerEnded(Exception):
    """The fork server ended, and with it all workers. No image is to blame."""


@dataclass(eq=False)
class _Job:
    """One image in a worker."""

    image_size: tuple[int, int]
    length: int
    result: asyncio.Future[Decoded]
    queue_seconds: float
    started: float
    """By the loop's clock."""
    cpu_seconds: float
    """The worker's, before."""
    timer: asyncio.TimerHandle | None = None


class DecodePool:
    """Confined workers. An async context manager, and a `Decoder` while it is entered.

    Args:
        size: the number of workers, beside those in the slow lane.
        limits: of each worker. The slow lane may have twice the memory of one.
        count_lost: called with the reason for which a worker was lost: `time`, `slow`, `cancelled`, `memory`, `crash`.
    """

    def __init__(self, size: int, limits: Limits, count_lost: Callable[[str], None]) -> None:
        self._size = size
        self._limits = limits
        self._count_lost = count_lost
        self._server: ForkServerProcess | None = None
        self._restart: asyncio.Task[None] | None = None
        self._starting = 0  # workers that the fork server was asked for and has not started yet
        self._workers: dict[int, WorkerHandle] = {}  # by process id, those in the slow lane included
        self._ready: set[WorkerHandle] = set()  # of the workers, those that are confined and can work
        self._confinement_logged = False
        self._idle: list[WorkerHandle] = []
        self._jobs: dict[WorkerHandle, _Job] = {}
        self._slow: set[WorkerHandle] = set()
        self._waiting: Turns[asyncio.Future[WorkerHandle]] = Turns()  # images that wait for a worker

    async def __aenter__(self) -> Self:
        """Start the fork server and the first worker, which takes about 0.3 s.

        Raises:
            RuntimeError: it did not start.
        """
        try:
            async with asyncio.timeout(_START_SECONDS):
                await self._start_server()
                worker = await self._acquire()
        except (TimeoutError, asyncio.CancelledError, Overloaded):
            self._close()
            raise RuntimeError("The process that decodes images did not start.") from None
        self._release(worker)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    async def decode(self, source: LoadedSource, image_size: tuple[int, int]) -> Decoded:
        """Decode an image and resize it to `image_size` (H, W).

        Raises:
            InvalidImage: it cannot be decoded, or not within the limits.
            Overloaded: no worker can be started, or the image takes long while others wait.
        """
        queued = time.perf_counter()
        while True:
            try:
                worker = await self._acquire()
                return await self._run(worker, source, image_size, time.perf_counter() - queued)
            except _ServerEnded:
                _log.warning("Decoding an image again, because its process ended.")

    # -- Workers

    async def _acquire(self) -> WorkerHandle:
        """Wait for an idle worker and take it."""
        if self._idle and not self._waiting:
            return self._idle.pop()
        waiter: asyncio.Future[WorkerHandle] = asyncio.get_running_loop().create_future()
        client, request = requester()
        self._waiting.put(client, request, waiter)
        self._hand_out()
        try:
            return await waiter
        except asyncio.CancelledError:
            self._waiting.discard(client, request, waiter)
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._release(waiter.result())
            raise

    def _release(self, worker: WorkerHandle) -> None:
        """Make a worker idle."""
        if self._workers.get(worker.pid) is worker:  # else it ended meanwhile
            self._idle.append(worker)
            self._hand_out()

    def _hand_out(self) -> None:
        """Give idle workers to waiting images, and start as many more workers as are missing and allowed."""
        while self._waiting and self._idle:
            if not (waiter := self._waiting.get()).done():
                waiter.set_result(self._idle.pop())
        allowed = self._size - (len(self._workers) - len(self._slow)) - self._starting
        missing = len(self._waiting) - self._starting - (len(self._workers) - len(self._ready))
        if self._server is not None and self._server.ready.done():
            for _ in range(min(allowed, missing)):
                self._starting += 1
                self._server.start_worker()

    def _discard(self, worker: WorkerHandle) -> None:
        """Close a worker. If it is idle, it ends."""
        del self._workers[worker.pid]
        self._ready.discard(worker)
        self._slow.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        worker.close()

    def _kill(self, worker: WorkerHandle, reason: str, error: GatewayError) -> None:
        """Kill a worker that is at work. Its image fails with `error`."""
        job = self._jobs.pop(worker)
        assert self._server is not None
        self._server.kill_worker(worker.pid)
        self._lose(worker, job, reason, error)

    def _lose(self, worker: WorkerHandle, job: _Job | None, reason: str, error: Exception) -> None:
        """Count a worker that has ended or was killed. Its image, if it has one, fails with `error`."""
        self._discard(worker)
        if job is not None:
            self._stop_watching(job)
            if not job.result.done():
                job.result.set_exception(error)
        self._count_lost(reason)
        self._hand_out()

    # -- Images

    async def _run(
        self, worker: WorkerHandle, source: LoadedSource, image_size: tuple[int, int], queue_seconds: float
    ) -> Decoded:
        """Decode an image in a worker that the caller has acquired."""
        loop = asyncio.get_running_loop()
        try:
            length = await worker.write(source)
            worker.begin(source, length, image_size)
        except OSError:
            raise _ServerEnded from None  # Whatever ended it, it was idle.
        except BaseException:
            self._release(worker)
            raise
        job = _Job(image_size, length, loop.create_future(), queue_seconds, loop.time(), worker.cpu_seconds())
        self._jobs[worker] = job
        self._watch(worker, job)
        try:
            return await job.result
        except asyncio.CancelledError:
            loop.call_at(job.started + _ABANDONED_SECONDS, self._kill_abandoned, worker, job)
            raise

    def _watch(self, worker: WorkerHandle, job: _Job) -> None:
        job.timer = asyncio.get_running_loop().call_later(_CHECK_SECONDS, self._check, worker, job)

    def _check(self, worker: WorkerHandle, job: _Job) -> None:
        """Look at an image that takes long."""
        used = self._used_seconds(worker)
        if used >= self._limits.cpu_seconds:
            self._kill(worker, "time", self._too_long())
            return
        if worker not in self._slow and used >= _SLICE_SECONDS and self._slow_lane_has_room(worker):
            self._slow.add(worker)
            worker.lower_priority(_NICENESS)
            self._hand_out()
        self._watch(worker, job)

    def _used_seconds(self, worker: WorkerHandle) -> float:
        """The CPU time of the worker's image."""
        return worker.cpu_seconds() - self._jobs[worker].cpu_seconds

    def _slow_lane_has_room(self, worker: WorkerHandle) -> bool:
        """Whether the slow lane has room. If it has none and images wait, its slowest image may be given up."""
        memory_bytes = worker.memory_bytes() + sum(slow.memory_bytes() for slow in self._slow)
        if len(self._slow) < self._size + _SLOW_BESIDE_SIZE and memory_bytes <= 2 * self._limits.memory_bytes:
            return True
        if self._waiting and self._slow:
            slowest = max(self._slow, key=self._used_seconds)
            if self._used_seconds(slowest) >= _PATIENCE_SECONDS:
                self._kill(slowest, "slow", Overloaded(_BUSY))
        return False  # The next check looks again.

    def _too_long(self) -> InvalidImage:
        return InvalidImage(f"The image takes longer than {self._limits.cpu_seconds:g} seconds to decode.")

    def _kill_abandoned(self, worker: WorkerHandle, job: _Job) -> None:
        if self._jobs.get(worker) is job:
            self._kill(worker, "cancelled", Overloaded(_BUSY))

    def _received(self, worker: WorkerHandle, message: bytes) -> None:
        """Take a message of a worker: first how it is confined, and then the results of its jobs."""
        if worker not in self._ready:  # Its first message says how it is confined.
            self._ready.add(worker)
            if not self._confinement_logged:
                self._confinement_logged = True
                _log.info("Images are decoded in processes with limits and %s.", Confinement(message[0]).description)
            self._idle.append(worker)
            self._hand_out()
            return
        if worker not in self._jobs:
            return
        if len(message) < RESULT.size:  # A decoder that was taken over may send anything.
            self._kill(worker, "crash", InvalidImage(_CRASHED))
            return
        job = self._jobs.pop(worker)
        self._stop_watching(job)
        outcome, ends, decode_seconds, preprocess_seconds = RESULT.unpack_from(message)
        if not job.result.done():
            text = message[RESULT.size :].decode(errors="replace")
            if outcome == Outcome.PIXELS and (pixels := worker.pixels(job.image_size)) is not None:
                job.result.set_result(Decoded(pixels, job.queue_seconds, decode_seconds, preprocess_seconds))
            elif outcome == Outcome.INVALID_IMAGE:
                job.result.set_exception(InvalidImage(text))
            else:
                _log.error("The decoder failed on an image. %s", text)
                job.result.set_exception(InvalidImage(_CRASHED))
        worker.forget(job.length)
        if ends or worker in self._slow:  # A priority once lowered cannot be raised again without privileges.
            self._discard(worker)
            self._hand_out()
        else:
            self._release(worker)

    @staticmethod
    def _stop_watching(job: _Job) -> None:
        if job.timer is not None:
            job.timer.cancel()

    # -- Events of the fork server

    def worker_started(self, pid: int, channel: socket.socket, memory: int) -> None:
        self._starting -= 1
        self._workers[pid] = WorkerHandle(pid, channel, memory, self._received)

    def worker_not_started(self, error: int) -> None:
        self._starting -= 1
        self._refuse_one(os.strerror(error))

    def worker_ended(self, pid: int, status: int) -> None:
        if (worker := self._workers.get(pid)) is None:
            return  # The pool ended it.
        worker.read()  # The result may have arrived before the end.
        if pid not in self._workers:
            return
        if worker not in self._ready:
            self._discard(worker)
            self._refuse_one(f"it ended by {_ended_by(status)}")
            return
        signum = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        reason = _REASONS.get(signum, "crash")
        _log.warning("A process that decodes images ended by %s.", _ended_by(status))
        error = {"memory": InvalidImage(NO_MEMORY), "time": self._too_long()}.get(reason, InvalidImage(_CRASHED))
        self._lose(worker, self._jobs.pop(worker, None), reason, error)

    def _refuse_one(self, problem: str) -> None:
        """Refuse one image that waits for a worker, because none can be started. The others try again."""
        _log.error("Cannot start a process to decode images: %s.", problem)
        while self._waiting:
            if not (waiter := self._waiting.get()).done():
                waiter.set_exception(Overloaded(_NO_WORKER))
                break
        self._hand_out()

    def server_ended(self) -> None:
        """Start another fork server. What was in work is done again."""
        _log.error("The process that starts decoders ended. Starting it again.")
        self._lose_all()
        self._restart = asyncio.get_running_loop().create_task(self._start_again())

    # -- The fork server

    async def _start_server(self) -> None:
        self._server = ForkServerProcess(self._limits, self)
        await self._server.ready
        self._hand_out()

    async def _start_again(self) -> None:
        while True:
            await asyncio.sleep(_SECONDS_BETWEEN_STARTS)
            try:
                await self._start_server()
            except OSError as error:
                _log.error("The process that starts decoders could not be started: %s.", error)
            else:
                return

    def _lose_all(self) -> None:
        self._server = None
        self._starting = 0
        for worker in list(self._workers.values()):
            job = self._jobs.pop(worker, None)
            self._discard(worker)
            if job is not None:
                self._stop_watching(job)
                if not job.result.done():
                    job.result.set_exception(_ServerEnded())

    def _close(self) -> None:
        if self._restart is not None:
            self._restart.cancel()
        if self._server is not None:
            self._server.close()
        self._lose_all()


def _ended_by(status: int) -> str:
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit status {os.WEXITSTATUS(status)}"
