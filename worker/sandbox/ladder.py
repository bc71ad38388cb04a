"""The ladder: the highest rung that a probe finds to hold here.

bubblewrap         namespaces: nothing else exists inside
landlock-network   Landlock for files, TCP and signals; the filter denies all sockets       Linux ≥ 6.7
landlock-files     Landlock for files; the filter denies all sockets and foreign signals    Linux ≥ 5.13
none               no sandbox: only when the setting says so, and on loopback
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from store.settings import Settings
from worker.sandbox import probe
from worker.sandbox.box import Box, Limits, Rung, engine_box, environment

LADDER: tuple[Rung, ...] = ("bubblewrap", "landlock-network", "landlock-files")
PROBE_SECONDS = 60
PROBE_LIMITS = Limits(memory_bytes=1 << 30, cpu_seconds=30)


class NoSandbox(Exception):
    """No rung of the ladder that the settings allow holds on this machine; says why, rung by rung."""


def choose(settings: Settings) -> Rung:
    """The rung for this machine's children: the one that the settings name, or the highest that holds. Takes a fraction
    of a second a rung. Raises NoSandbox."""
    if settings.sandbox == "none":
        return "none"
    rungs = LADDER if settings.sandbox == "auto" else (settings.sandbox,)
    reasons = []
    for rung in rungs:
        reason = fault(rung, settings)
        if reason is None:
            return rung
        reasons.append(f"{rung}: {reason}")
    raise NoSandbox(
        "the engine can't be locked in on this machine ("
        + "; ".join(reasons)
        + "). Install bubblewrap, or use a kernel with Landlock; NIWAKI_SANDBOX=none goes without, on loopback only"
    )


def launch_command(box: Box, command: Sequence[str]) -> list[str]:
    """What the parent starts, as a session of its own; the thread that does has to outlive the child."""
    return [sys.executable, "-P", "-m", "worker.sandbox.launch", str(os.getpid()), box.to_json(), *command]


def fault(rung: Rung, settings: Settings) -> str | None:
    """Why a rung doesn't hold here, seen from inside a box of its kind; None: it holds."""
    settings.scratch.mkdir(parents=True, exist_ok=True)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="probe-", dir=settings.scratch) as own,
        tempfile.TemporaryDirectory(prefix="probe-", dir=settings.data_dir) as foreign,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        folder = Path(own)
        for name in ("inputs", "out", "tmp"):
            folder.joinpath(name).mkdir()
        secret = Path(foreign, "secret")
        secret.write_bytes(b"secret")
        source = Path(probe.__file__).read_text("utf-8")
        port = str(listener.getsockname()[1])
        command = [sys.executable, "-I", "-S", "-c", source, str(secret), foreign, port, str(os.getpid())]
        try:
            done = subprocess.run(
                launch_command(engine_box(rung, folder, PROBE_LIMITS), command),
                env=environment(folder, threads=1),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PROBE_SECONDS,
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"no answer within {PROBE_SECONDS} s"
    if done.returncode != 0:
        return done.stderr.strip()[-300:] or f"exit status {done.returncode}"
    outcome = json.loads(done.stdout)
    broken = [f"a child {action}" for action in probe.FORBIDDEN if outcome[action]]
    broken += [f"no child {action}" for action in probe.NEEDED if not outcome[action]]
    return ", ".join(broken) or None
