"""The fork server: a process that has imported the decoders, and forks workers in milliseconds.

    python -m gateway.images.confined.fork_server CONTROL_SOCKET PARENT_PID LIMITS

A worker is not forked from the gateway, because gRPC's threads and locks do not survive a fork. This process has no
threads. It alone waits for workers and kills them, so a process id that it uses is never one that was given away again.
"""

import errno
import gc
import io
import json
import os
import selectors
import signal
import socket
import sys
import warnings
from typing import Final, NoReturn

from PIL import Image

from gateway import process_memory
from gateway.images.confined import image_worker
from gateway.images.confined.messages import CONTROL, Control, Limits
from gateway.images.decode import PLUGINS, decode
from gateway.images.preprocess import preprocess
from gateway.parent_death import end_with_parent

# Ctrl-C and some service managers signal all processes of a service. These processes work until the gateway ends.
_IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> NoReturn:
    """Serve until the gateway closes the control socket or ends."""
    control = socket.socket(fileno=int(sys.argv[1]))
    end_with_parent(int(sys.argv[2]), signal.SIGKILL)
    for signum in _IGNORED:
        signal.signal(signum, signal.SIG_IGN)
    process_memory.set_malloc_thresholds()
    warnings.simplefilter("ignore")  # Decoders warn about damaged metadata, once for each image.
    _load_decoders()
    process_memory.freeze_garbage_collector()  # so that a collection in a worker does not copy what it shares
    ForkServer(control, Limits(**json.loads(sys.argv[3]))).run()


class ForkServer:
    """Starts, kills and waits for workers.

    Args:
        control: its end of the socket to the gateway.
        limits: of each worker.
    """

    def __init__(self, control: socket.socket, limits: Limits) -> None:
        self._control = control
        self._limits = limits
        self._workers: set[int] = set()

    def run(self) -> NoReturn:
        """Serve until the control socket is closed. The kernel then kills the workers."""
        woken, wake = socket.socketpair()
        wake.setblocking(False)
        woken.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        selector = selectors.DefaultSelector()
        selector.register(self._control, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        self._send(Control.READY)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if woken in ready:
                woken.recv(4_096)
                self._reap()
            if self._control in ready:
                message = self._control.recv(CONTROL.size)
                if not message:
                    os._exit(0)
                kind, pid, _ = CONTROL.unpack(message)
                if kind == Control.START:
                    self._start()
                elif kind == Control.KILL and pid in self._workers:
                    os.kill(pid, signal.SIGKILL)

    def _start(self) -> None:
        """Fork a worker, and send the gateway its socket and its memory file."""
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with ours, theirs:
                memory = os.memfd_create("pe-image")
                try:
                    pid = self._fork(ours, theirs, memory)
                    message = CONTROL.pack(Control.STARTED, pid, 0)
                    socket.send_fds(self._control, [message], [ours.fileno(), memory])
                finally:
                    os.close(memory)
        except OSError as error:
            self._send(Control.NOT_STARTED, error.errno or errno.EIO)

    def _fork(self, others_end: socket.socket, channel: socket.socket, memory: int) -> int:
        """Fork a worker, and return its process id. In the worker, this never returns."""
        server = os.getpid()
        pid = os.fork()
        if pid:
            self._workers.add(pid)
            return pid
        try:
            end_with_parent(server, signal.SIGKILL)
            signal.set_wakeup_fd(-1)
            self._control.close()
            others_end.close()  # Otherwise the worker would keep its socket open when the gateway closes it.
            image_worker.run(channel, memory, self._limits)
        finally:
            os._exit(1)

    def _reap(self) -> None:
        while self._workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            self._workers.discard(pid)
            self._send(Control.ENDED, pid, status)

    def _send(self, kind: Control, first: int = 0, second: int = 0) -> None:
        self._control.send(CONTROL.pack(kind, first, second))


def _load_decoders() -> None:
    """Decode a small image of each format. A confined worker can open no file, so it cannot import a module later."""
    for name in PLUGINS.values():
        file = io.BytesIO()
        Image.new("RGB", (16, 16)).save(file, name)
        preprocess(decode(file.getvalue(), 256), (8, 8))
    gc.collect()


if __name__ == "__main__":
    main()
