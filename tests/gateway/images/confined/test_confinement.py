"""What a confined process can no longer do. Each test runs in a process of its own, because confinement is for good."""

import subprocess
import sys
from typing import Final

import pytest

pytestmark = pytest.mark.slow

CONFINED: Final = """
import ctypes, os, resource, socket, sys, threading
from gateway.images.confined.confinement import Confinement, confine
parent = os.getppid()
found = confine(200 * 2**20)
assert found == Confinement.SECCOMP | Confinement.LANDLOCK, found
"""


def refused(code: str) -> str:
    """The error with which this code fails in a confined process."""
    body = "\n    ".join(code.strip().splitlines())
    program = f"{CONFINED}\ntry:\n    {body}\nexcept BaseException as error:\n    print(type(error).__name__, end='')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize(
    "code",
    [
        "open('/etc/passwd')",
        "open('/tmp/pe-confined', 'w')",
        "os.listdir('/')",
        "os.stat('/')",
        "socket.socket()",
        "socket.socket(socket.AF_UNIX)",
        "socket.socketpair()",
        "os.pipe()",
        "os.fork()",
        "os.kill(parent, 0)",
        "os.execv(sys.executable, [sys.executable])",
        "os.memfd_create('x')",
        "resource.prlimit(parent, resource.RLIMIT_CPU)",
    ],
)
def test_files_network_and_processes_are_out_of_reach(code: str) -> None:
    assert refused(code) in ("PermissionError", "OSError")


def test_threads_may_be_started_because_the_decoder_of_heic_starts_one() -> None:
    assert refused("thread = threading.Thread(target=int); thread.start(); thread.join()") == ""


def test_memory_is_limited() -> None:
    assert refused("bytearray(150 * 2**20)") == ""
    assert refused("bytearray(250 * 2**20)") == "MemoryError"


def test_limits_cannot_be_raised() -> None:
    assert refused("resource.setrlimit(resource.RLIMIT_AS, (2**40, 2**40))") == "ValueError"


def test_cpu_time_is_limited_for_each_image() -> None:
    program = """
import time
from gateway.images.confined.confinement import allow_cpu_seconds, confine
confine(2**28)
for _ in range(3):
    allow_cpu_seconds(0.5)
    end = time.process_time() + 0.9
    while time.process_time() < end:
        pass
print("three images", flush=True)
while True:
    pass
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("three images\n", -24)  # SIGXCPU
