"""The system call filter: no sockets, no namespaces, no reach into other processes; the same on every rung.

Calls by which Landlock's file rules could be walked around are refused too: before ABI 3 it doesn't know `truncate`,
and it knows no change of mode, owner, times or extended attributes at all. Nor can a child leave its group.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

from worker.sandbox.syscalls import ARCHITECTURES
from worker.sandbox.system import PR_SET_SECCOMP, prctl

MODE_FILTER = 2
ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
ERRNO = 0x00050000

# Classic BPF: load a word at an absolute offset, jump if equal / greater or equal / any bit set, return.
LOAD, JUMP_EQUAL, JUMP_GREATER_EQUAL, JUMP_SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, ARGUMENT_0 = 0, 4, 16  # offsets in struct seccomp_data (both machines are little-endian)

NAMESPACES = 0x7E020000  # CLONE_NEW… flags
X32 = 0x40000000  # x86-64's other numbering of the same calls

SIGNALS_SELF = ("kill", "tkill", "tgkill")
SIGNALS = ("rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal")
CONDITIONAL = frozenset({"clone", "clone3", "prlimit64", *SIGNALS_SELF, *SIGNALS})


def program(own_pid: int | None = None) -> bytes:
    """The filter as an array of `struct sock_filter`. With `own_pid` a process can send signals to that one alone, for
    where nothing else keeps them inside. Raises OSError on an architecture whose numbers aren't known."""
    architecture = ARCHITECTURES.get(platform.machine())
    if architecture is None:
        raise OSError(errno.ENOSYS, f"no system call table for {platform.machine()}")
    numbers = architecture.numbers
    refuse = ERRNO | errno.EPERM
    code = [
        _op(LOAD, ARCHITECTURE),
        _op(JUMP_EQUAL, architecture.audit, 1, 0),
        _op(RETURN, KILL_PROCESS),
        _op(LOAD, NUMBER),
        _op(JUMP_GREATER_EQUAL, X32, 0, 1),
        _op(RETURN, refuse),
    ]
    denied = [name for name in numbers if name not in CONDITIONAL]
    if own_pid is not None:
        denied += SIGNALS
    for name in denied:
        code += [_op(JUMP_EQUAL, numbers[name], 0, 1), _op(RETURN, refuse)]
    # The C library takes "no such call" for an old kernel and uses clone, whose flags can be looked at.
    code += [_op(JUMP_EQUAL, numbers["clone3"], 0, 1), _op(RETURN, ERRNO | errno.ENOSYS)]
    code += _where(numbers["clone"], _op(JUMP_SET, NAMESPACES, 0, 1), refuse)
    code += _where(numbers["prlimit64"], _op(JUMP_EQUAL, 0, 1, 0), refuse)
    if own_pid is not None:
        for name in SIGNALS_SELF:
            code += _where(numbers[name], _op(JUMP_EQUAL, own_pid, 1, 0), refuse)
    code.append(_op(RETURN, ALLOW))
    return b"".join(code)


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)


def _where(number: int, test: bytes, refuse: int) -> list[bytes]:
    """For one call: `test` looks at its first argument and goes on to the refusal or past it, to the permission."""
    return [_op(JUMP_EQUAL, number, 0, 4), _op(LOAD, ARGUMENT_0), test, _op(RETURN, refuse), _op(RETURN, ALLOW)]


def install(code: bytes) -> None:
    """Puts the filter on this process and all it starts, for good. `no_new_privileges` comes first."""
    buffer = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    value = Program(len(code) // 8, ctypes.addressof(buffer))
    prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.c_void_p(ctypes.addressof(value)))
