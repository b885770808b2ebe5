"""Start the fork server, and talk to it."""

import array
import asyncio
import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict
from typing import Final, Protocol

from gateway.images.confined.messages import CONTROL, Control, Limits

_DESCRIPTORS: Final = 2
_MODULE: Final = "gateway.images.confined.fork_server"
# Workers decode one image at a time. Threads would add no speed.
_ONE_THREAD: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}


class Events(Protocol):
    """What the fork server reports."""

    def worker_started(self, pid: int, channel: socket.socket, memory: int) -> None:
        """A worker started. The two descriptors are the callee's to close."""

    def worker_not_started(self, error: int) -> None:
        """A worker could not be started, for this error number."""

    def worker_ended(self, pid: int, status: int) -> None:
        """A worker ended, with this status as in `os.waitpid`."""

    def server_ended(self) -> None:
        """The fork server ended, and with it all workers."""


class ForkServerProcess:
    """The fork server's process. Create it in the main thread, because it ends with the thread that started it.

    Args:
        limits: of each worker.
        events: told of all that happens.
    """

    def __init__(self, limits: Limits, events: Events) -> None:
        self._events = events
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        with theirs:
            arguments = [str(theirs.fileno()), str(os.getpid()), json.dumps(asdict(limits))]
            # As `multiprocessing` does, the child gets this process's path. `-P`: not the current directory.
            path = os.pathsep.join(filter(None, sys.path))
            # Without `preexec_fn` this is a vfork, which does not run gRPC's fork handlers.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", _MODULE, *arguments],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **_ONE_THREAD, "PYTHONPATH": path},
                pass_fds=[theirs.fileno()],
            )
        self._loop.add_reader(self._control, self._read)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def start_worker(self) -> None:
        """Ask for another worker."""
        self._send(Control.START)

    def kill_worker(self, pid: int) -> None:
        """Kill a worker. A process id that is no worker's any more is ignored."""
        self._send(Control.KILL, pid)

    def close(self) -> None:
        """Kill the fork server and its workers."""
        self._loop.remove_reader(self._control)
        self._control.close()
        self._process.kill()
        self._process.wait()
        self.ready.cancel()

    def _send(self, kind: Control, pid: int = 0) -> None:
        try:
            self._control.send(CONTROL.pack(kind, pid, 0))
        except OSError:  # It has ended, which is read next, or it hangs with a full buffer.
            self._process.kill()

    def _read(self) -> None:
        """Read one message of the fork server, with its descriptors, and report it."""
        descriptors = array.array("i")
        try:
            message, found, *_ = self._control.recvmsg(
                CONTROL.size, socket.CMSG_SPACE(_DESCRIPTORS * descriptors.itemsize)
            )
        except BlockingIOError:
            return
        except OSError:
            message, found = b"", []
        for _, _, data in found:
            descriptors.frombytes(data)
        if not message:
            self.close()
            self._events.server_ended()
            return
        kind, first, second = CONTROL.unpack(message)
        match kind:
            case Control.READY if not self.ready.done():
                self.ready.set_result(None)
            case Control.STARTED:
                channel = socket.socket(fileno=descriptors[0])
                channel.setblocking(False)
                self._events.worker_started(first, channel, descriptors[1])
            case Control.NOT_STARTED:
                self._events.worker_not_started(first)
            case Control.ENDED:
                self._events.worker_ended(first, second)
