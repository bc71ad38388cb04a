"""The embedded service: migrates, then keeps the API and the workers running, all on this machine.

Every process is started so that the kernel ends it when the supervisor dies, however it dies.
"""

from __future__ import annotations

import http.client
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from store.migration import migrate
from store.settings import Settings
from worker.sandbox.ladder import choose
from worker.sandbox.system import die_with_parent

POLL_SECONDS = 0.1
SHORTEST_PAUSE, LONGEST_PAUSE = 0.2, 30.0
SETTLED_SECONDS = 60.0  # a process that ran for so long starts again after the shortest pause
END_SECONDS = 10.0
GRACE = ("--timeout-graceful-shutdown", "3")  # an open event stream would hold up the end for ever

log = logging.getLogger(__name__)


@dataclass
class Service:
    """One process to be kept running. After each death in a row the pause before the next start doubles."""

    name: str
    command: Sequence[str]
    variables: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    start_at: float = 0.0
    pause: float = SHORTEST_PAUSE

    def keep(self) -> None:
        """Starts the process if it is due; notes its end."""
        now = time.monotonic()
        if self.process is None:
            if now >= self.start_at:
                self._start(now)
        elif self.process.poll() is not None:
            log.warning("%s ended with status %s, restarting", self.name, self.process.returncode)
            if now - self.started > SETTLED_SECONDS:
                self.pause = SHORTEST_PAUSE
            self.process, self.start_at = None, now + self.pause
            self.pause = min(self.pause * 2, LONGEST_PAUSE)

    def _start(self, now: float) -> None:
        parent = os.getpid()

        def follow() -> None:
            die_with_parent(signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

        self.started = now
        self.process = subprocess.Popen(
            self.command,
            env={**os.environ, **self.variables},
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,  # our stdout holds the address alone
            start_new_session=True,  # Ctrl-C is for the supervisor alone
            preexec_fn=follow,
        )


def serve(settings: Settings) -> int:
    """Runs until SIGINT or SIGTERM. Raises NoSandbox before anything is started."""
    if not settings.on_loopback:
        print("niwaki: the embedded service has no access control: host must be a loopback address", file=sys.stderr)
        return 2
    port = settings.port or _free_port(settings.host)
    if _in_use(settings.host, port):
        print(f"niwaki: port {port} of {settings.host} is in use: set NIWAKI_PORT", file=sys.stderr)
        return 2
    choose(settings)
    migrate(settings)
    services = _services(settings, port)
    wanted = True

    def end(_number: int, _frame: object) -> None:
        nonlocal wanted
        wanted = False

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    announced = False
    while wanted:
        for service in services:
            service.keep()
        if not announced and _ready(settings.host, port):
            print(f"Niwaki is ready: http://{settings.host}:{port}  (Ctrl-C ends it)", flush=True)
            announced = True
        time.sleep(POLL_SECONDS)
    _end(services)
    return 0


def _services(settings: Settings, port: int) -> list[Service]:
    python, variables = sys.executable, {"NIWAKI_PORT": str(port)}
    uvicorn = [python, "-m", "uvicorn", "api.app:create_app", "--factory", "--host", settings.host, "--port", str(port)]
    worker = [python, "-m", "worker", "run", "--queues"]
    services = [
        Service("api", [*uvicorn, "--log-level", settings.log_level.lower(), *GRACE, "--no-access-log"], variables),
        Service("worker-inspect", [*worker, "inspect"], {**variables, "NIWAKI_DEVICE": "cpu"}),
    ]
    gpus = len(list(Path("/dev").glob("nvidia[0-9]*")))
    if gpus == 0:
        return [*services, Service("worker-cpu", [*worker, "cpu"], {**variables, "NIWAKI_DEVICE": "cpu"})]
    return services + [
        Service(f"worker-gpu-{number}", [*worker, "gpu"], {**variables, "NIWAKI_DEVICE": f"cuda:{number}"})
        for number in range(gpus)
    ]


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as server:
        return int(server.getsockname()[1])


def _in_use(host: str, port: int) -> bool:
    try:
        with socket.create_server((host, port)):
            return False
    except OSError:
        return True


def _ready(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def _end(services: Sequence[Service]) -> None:
    running = [service.process for service in services if service.process is not None]
    for process in running:
        process.terminate()
    deadline = time.monotonic() + END_SECONDS
    for process in running:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
