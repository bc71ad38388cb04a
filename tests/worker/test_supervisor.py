"""`python -m worker serve`: the whole embedded service in one command, and nothing of it left afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.worker.processes import alive, eventually
from worker.watch import family

ROOT = Path(__file__).parents[2]


@pytest.fixture
def serve(tmp_path):
    """Starts the service on a free port; gives the process and the address that it printed."""
    started: list[subprocess.Popen] = []

    def begin() -> tuple[subprocess.Popen, str]:
        variables = {name: value for name, value in os.environ.items() if not name.startswith("NIWAKI_")}
        variables |= {"NIWAKI_DATA_DIR": str(tmp_path / "var"), "NIWAKI_PORT": "0", "NIWAKI_LOG_LEVEL": "WARNING"}
        with tmp_path.joinpath("log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "worker", "serve"], env=variables, cwd=ROOT, stdout=subprocess.PIPE, stderr=log
            )
        started.append(process)
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        assert line.startswith("Niwaki is ready: http://127.0.0.1:"), tmp_path.joinpath("log").read_text()
        return process, line.split()[3]

    yield begin
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def members(process: subprocess.Popen, ending: str) -> list[int]:
    """Processes of the service whose command line ends so: "inspect", "cpu", or the API's last option."""
    found = []
    for pid in family(process.pid)[1:]:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if words[-1].decode() == ending:
            found.append(pid)
    return found


def ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def test_it_serves_restarts_what_dies_and_ends_in_order(serve):
    process, address = serve()
    assert ready(address)
    for ending in ("--no-access-log", "inspect", "cpu"):
        (before,) = members(process, ending)
        os.kill(before, signal.SIGKILL)
        assert eventually(lambda: [pid for pid in members(process, ending) if pid != before])  # noqa: B023
    assert eventually(lambda: ready(address))
    everyone = family(process.pid)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert not any(alive(pid) for pid in everyone)


def test_kill_9_of_the_supervisor_leaves_nobody(serve):
    process, _ = serve()
    everyone = family(process.pid)
    assert len(everyone) >= 4
    process.kill()
    process.wait()
    assert eventually(lambda: not any(alive(pid) for pid in everyone))


def test_it_serves_this_machine_alone(tmp_path):
    variables = os.environ | {"NIWAKI_DATA_DIR": str(tmp_path), "NIWAKI_HOST": "0.0.0.0"}  # noqa: S104
    done = subprocess.run(
        [sys.executable, "-m", "worker", "serve"], env=variables, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "loopback" in done.stderr
