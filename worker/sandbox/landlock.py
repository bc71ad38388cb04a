"""Landlock: a process gives up all files but those listed, without root and without namespaces (Linux ≥ 5.13).

Numbers and meanings are those of the kernel's Documentation/userspace-api/landlock.rst.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable

from worker.sandbox.system import syscall

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # on every architecture
VERSION_FLAG = 1
PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
TRUNCATE, IOCTL_DEV = 1 << 14, 1 << 15
RIGHTS_BY_ABI = {1: 1 << 13, 2: 1 << 14, 3: 1 << 15, 5: 1 << 16}  # since that ABI, all bits below this one are known
READ = EXECUTE | READ_FILE | READ_DIR
ON_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
BIND_AND_CONNECT_TCP = 3
ABSTRACT_SOCKETS_AND_SIGNALS = 3

NETWORK_ABI = 4
SIGNALS_ABI = 6


def abi() -> int:
    """The version of Landlock that this kernel speaks; 0: none, or it is switched off."""
    try:
        return syscall("landlock_create_ruleset", CREATE_RULESET, None, 0, VERSION_FLAG)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            return 0
        raise


def restrict(*, readable: Iterable[str], writable: Iterable[str], devices: Iterable[str], network: bool) -> None:
    """Leaves this process, for good, the trees `readable` and `writable` and the device files alone.

    `network`: no TCP either, and no signal or abstract socket out of the box where the kernel can do that.
    `no_new_privileges` comes first. Raises OSError where the kernel can't.
    """
    version = abi()
    known = max((bits for since, bits in RIGHTS_BY_ABI.items() if since <= version), default=1) - 1
    attributes = struct.pack("<Q", known)
    if network:
        if version < NETWORK_ABI:
            raise OSError(errno.EOPNOTSUPP, f"Landlock ABI {version} has no network rules")
        attributes += struct.pack("<Q", BIND_AND_CONNECT_TCP)
        if version >= SIGNALS_ABI:
            attributes += struct.pack("<Q", ABSTRACT_SOCKETS_AND_SIGNALS)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    ruleset = syscall("landlock_create_ruleset", CREATE_RULESET, buffer, len(attributes), 0)
    for path in readable:
        _allow(ruleset, path, READ & known)
    for path in writable:
        _allow(ruleset, path, known & ~IOCTL_DEV)
    for path in devices:
        _allow(ruleset, path, (READ_FILE | WRITE_FILE | IOCTL_DEV) & known)
    syscall("landlock_restrict_self", RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    if not stat.S_ISDIR(os.fstat(target).st_mode):
        rights &= ON_A_FILE
    rule = struct.pack("<Qi", rights, target)
    syscall("landlock_add_rule", ADD_RULE, ruleset, PATH_BENEATH, ctypes.create_string_buffer(rule, len(rule)), 0)
    os.close(target)
