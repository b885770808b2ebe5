"""A seccomp filter that allows only what decoding needs: memory, time, and descriptors that are open already.

Sources: https://docs.kernel.org/userspace-api/seccomp_filter.html; for the instructions linux/bpf_common.h; for the
numbers of the system calls asm/unistd_64.h (x86-64) and asm-generic/unistd.h (aarch64).
"""

import ctypes
import errno
import platform
import struct
from typing import Final

_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2
_RET_ALLOW: Final = 0x7FFF0000
_RET_ERRNO: Final = 0x00050000
_RET_KILL_PROCESS: Final = 0x80000000

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_IF_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JUMP_IF_ANY_BIT: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K
# Offsets in struct seccomp_data.
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16

_ARCHITECTURES: Final = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}  # AUDIT_ARCH_*, column below
_ALLOWED: Final = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "nanosleep": (35, 101),
    "getpid": (39, 172),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "exit": (60, 93),
    "getrusage": (98, 165),
    "gettid": (186, 178),
    "futex": (202, 98),
    "sched_getaffinity": (204, 123),
    "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "tgkill": (234, 131),
    "set_robust_list": (273, 99),
    "getrandom": (318, 278),
    "rseq": (334, 293),
}
_PRLIMIT64: Final = (302, 261)  # allowed for the process itself only, which is named by 0
# libde265 decodes HEIC in a thread. Without clone3, whose flags a filter cannot see, glibc starts threads by clone.
_CLONE: Final = (56, 220)
_CLONE3: Final = (435, 435)
_CLONE_THREAD: Final = 0x00010000  # linux/sched.h


def install() -> bool:
    """Install the filter for this process, for good. Other system calls then fail with EPERM.

    Returns:
        False if the kernel has no seccomp, or the processor is neither x86-64 nor aarch64.
    """
    if platform.machine() not in _ARCHITECTURES:
        return False
    program = _program(*_ARCHITECTURES[platform.machine()])
    instructions = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):  # struct sock_fprog
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))

    argument = Program(len(program) // 8, ctypes.cast(instructions, ctypes.c_void_p))
    prctl = ctypes.CDLL(None).prctl
    return bool(prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(argument)) == 0)


def _program(architecture: int, column: int) -> bytes:
    refuse = _instruction(_RETURN, _RET_ERRNO | errno.EPERM)
    allow = _instruction(_RETURN, _RET_ALLOW)
    parts = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_JUMP_IF_EQUAL, architecture, if_true=1),
        _instruction(_RETURN, _RET_KILL_PROCESS),
        _instruction(_LOAD, _NUMBER),
    ]
    for numbers in _ALLOWED.values():
        parts += [_instruction(_JUMP_IF_EQUAL, numbers[column], if_false=1), allow]
    parts += [
        _instruction(_JUMP_IF_EQUAL, _CLONE3[column], if_false=1),
        _instruction(_RETURN, _RET_ERRNO | errno.ENOSYS),
        _instruction(_JUMP_IF_EQUAL, _CLONE[column], if_false=4),
        _instruction(_LOAD, _FIRST_ARGUMENT),  # its flags
        _instruction(_JUMP_IF_ANY_BIT, _CLONE_THREAD, if_false=1),
        allow,
        refuse,
        _instruction(_JUMP_IF_EQUAL, _PRLIMIT64[column], if_false=4),
        _instruction(_LOAD, _FIRST_ARGUMENT),  # a process id, which has 32 bits
        _instruction(_JUMP_IF_EQUAL, 0, if_false=1),
        allow,
        refuse,
        refuse,
    ]
    return b"".join(parts)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)  # struct sock_filter
