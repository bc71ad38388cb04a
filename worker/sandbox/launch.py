"""`python -m worker.sandbox.launch PARENT_PID BOX COMMAND…`: runs a command in a box and stands watch over its group.

The launcher stays outside the box, as the leader of the process group. When its parent dies (the kernel tells it so by
SIGTERM), it kills the whole group; the child would die with the launcher anyway, grandchildren need this. It ends as
the child does, with 128 + N after a signal N; 126: the box couldn't be built, the reason is on stderr.
"""

from __future__ import annotations

import os
import signal
import sys

from worker.sandbox import bubblewrap, landlock, limits, seccomp, system
from worker.sandbox.box import Box

CANNOT_BUILD = 126
WATCHED = {signal.SIGTERM, signal.SIGCHLD}


def main() -> int:
    parent, box, command = int(sys.argv[1]), Box.from_json(sys.argv[2]), sys.argv[3:]
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    system.die_with_parent(signal.SIGTERM)
    system.prctl(system.PR_SET_CHILD_SUBREAPER, 1)  # orphans inside stay below us, where the watch sees them
    if os.getppid() != parent:
        return CANNOT_BUILD
    launcher = os.getpid()
    child = os.fork()
    if child == 0:
        _become(launcher, box, command)
    while True:
        if signal.sigwait(WATCHED) == signal.SIGTERM:
            os.killpg(launcher, signal.SIGKILL)
        status = _reap(child)
        if status is not None:
            return status if status >= 0 else 128 - status


def _reap(child: int) -> int | None:
    """Collects whoever ended; the exit code of `child`, negative for a signal, if it was among them."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == child:
            return os.waitstatus_to_exitcode(status)
        if pid == 0:
            return None


def _become(launcher: int, box: Box, command: list[str]) -> None:
    """Turns this process into the command, inside the box. Doesn't return."""
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        system.die_with_parent(signal.SIGKILL)
        if os.getppid() != launcher:
            os._exit(CANNOT_BUILD)
        os.chdir(box.writable[0])
        limits.apply(box.limits)
        command = enter(box) + command
        os.execvp(command[0], command)  # noqa: S606 - a list of our own, no shell
    except (OSError, ValueError) as error:
        print(f"sandbox {box.rung}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(CANNOT_BUILD)


def enter(box: Box) -> list[str]:
    """Restricts this process as its rung says; returns what goes before the command."""
    if box.rung == "none":
        return []
    if box.rung == "bubblewrap":
        return bubblewrap.arguments(box, seccomp.program())
    system.no_new_privileges()
    system.drop_capabilities()
    network = box.rung == "landlock-network"
    # Landlock keeps signals inside from ABI 6 on; before, the filter lets a process signal itself alone.
    signals_inside = network and landlock.abi() >= landlock.SIGNALS_ABI
    code = seccomp.program(None if signals_inside else os.getpid())
    landlock.restrict(readable=("/proc", *box.readable), writable=box.writable, devices=box.devices, network=network)
    seccomp.install(code)
    return []


if __name__ == "__main__":
    sys.exit(main())
