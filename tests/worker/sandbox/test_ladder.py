"""The ladder, and each rung from inside the box."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from store.settings import Settings
from worker.child import Done
from worker.sandbox import ladder
from worker.sandbox.box import Limits
from worker.sandbox.syscalls import ARCHITECTURES


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "var")


def test_every_rung_holds_here(rung, settings):
    assert ladder.fault(rung, settings) is None


def test_the_highest_rung_is_chosen(settings):
    assert ladder.choose(settings) == "bubblewrap"


def test_a_rung_can_be_asked_for(rung, tmp_path):
    assert ladder.choose(Settings(data_dir=tmp_path / "var", sandbox=rung)) == rung


def test_no_sandbox_only_when_asked_for(tmp_path):
    assert ladder.choose(Settings(data_dir=tmp_path / "var", sandbox="none")) == "none"
    with pytest.raises(ValueError, match="loopback"):
        Settings(data_dir=tmp_path / "var", sandbox="none", host="0.0.0.0")  # noqa: S104


def test_the_probe_sees_a_box_that_leaks(settings):
    """Without a sandbox, everything that the probe looks for is there to be found."""
    found = ladder.fault("none", settings)
    assert found is not None
    for action in ("reads foreign files", "writes foreign files", "connects", "sends datagrams"):
        assert action in found


def test_where_nothing_holds_the_engine_is_refused(settings, monkeypatch):
    """A PATH whose bwrap can't build anything stands for a kernel that forbids it."""
    broken = settings.data_dir / "bin"
    broken.mkdir(parents=True)
    broken.joinpath("bwrap").write_text("#!/bin/sh\necho no namespaces here >&2\nexit 1\n")
    broken.joinpath("bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken}:{os.environ['PATH']}")
    assert ladder.choose(settings) == "landlock-network"
    with pytest.raises(ladder.NoSandbox, match="no namespaces here"):
        ladder.choose(settings.model_copy(update={"sandbox": "bubblewrap"}))


def ask(start, rung, source: str, *arguments: str):
    """The value of the expression that `source` leaves in `answer`, from inside the box."""
    say = "print(json.dumps({'event': 'done', 'answer': answer}))"
    program = f"import json, os, sys\nfrom pathlib import Path\n{source}\n{say}"
    child = start(rung, program, *arguments)
    list(child.events())
    ending = child.ending()
    assert isinstance(ending, Done), ending
    return ending.event["answer"]


TRY = """
def attempt(act):
    try:
        act()
    except OSError:
        return "denied"
    return "done"
"""


def test_the_environment_is_clean(start, rung, monkeypatch):
    monkeypatch.setenv("NIWAKI_S3_SECRET_ACCESS_KEY", "credential")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "credential")
    environment = ask(start, rung, "answer = dict(os.environ)")
    assert not [name for name in environment if name.startswith(("NIWAKI", "AWS"))]
    assert "credential" not in environment.values()
    assert environment["HOME"] == environment["TMPDIR"]
    assert environment["CUDA_VISIBLE_DEVICES"] == ""


def test_inputs_are_read_only_and_the_rest_of_the_machine_is_away(start, rung, folder, tmp_path):
    other = tmp_path / "scratch" / "other-job"
    other.mkdir()
    other.joinpath("secret").write_text("secret")
    source = (
        TRY
        + """
inputs, other = Path(sys.argv[1]), Path(sys.argv[2])
home = Path("/root") if os.getuid() == 0 else Path.home()
answer = {
    "read input": attempt(lambda: (inputs / "model").read_bytes()),
    "write output": attempt(lambda: Path("result").write_bytes(b"x")),
    "write tmp": attempt(lambda: Path(os.environ["TMPDIR"], "x").write_bytes(b"x")),
    "write input": attempt(lambda: (inputs / "model").write_bytes(b"x")),
    "new input": attempt(lambda: (inputs / "new").write_bytes(b"x")),
    "remove input": attempt(lambda: (inputs / "model").unlink()),
    "truncate input": attempt(lambda: os.truncate(inputs / "model", 0)),
    "change input's mode": attempt(lambda: (inputs / "model").chmod(0o777)),
    "read other": attempt(lambda: (other / "secret").read_bytes()),
    "list jobs": attempt(lambda: (os.listdir(other.parent).index("other-job"))) if os.path.isdir(other) else "denied",
    "list homes": "denied" if sys.prefix.startswith("/home/") else attempt(lambda: os.listdir("/home")),
    "passwords": attempt(lambda: Path("/etc/passwd").read_bytes()),
    "write /tmp": attempt(lambda: Path("/tmp/niwaki-escape").write_bytes(b"x")),
    "write /dev/shm": attempt(lambda: Path("/dev/shm/niwaki-escape").write_bytes(b"x")),
    "write /usr": attempt(lambda: Path("/usr/niwaki-escape").write_bytes(b"x")),
    "write the root": attempt(lambda: Path("/niwaki-escape").write_bytes(b"x")),
    "link out": attempt(lambda: os.link("/etc/passwd", "passwd")),
}"""
    )
    answer = ask(start, rung, source, str(folder / "inputs"), str(other))
    assert {name for name, outcome in answer.items() if outcome == "done"} == {
        "read input",
        "write output",
        "write tmp",
    }


def test_the_kernels_other_doors_are_shut(start, rung):
    source = (
        TRY
        + """
import ctypes, resource, signal, socket
libc = ctypes.CDLL(None, use_errno=True)
parent = os.getppid()
def call(function, *arguments):
    def act():
        if function(*arguments) < 0:
            raise OSError(ctypes.get_errno(), "denied")
    return attempt(act)
answer = {
    "user namespace": call(libc.unshare, 0x10000000),
    "mount": call(libc.mount, b"none", b"/proc", b"tmpfs", 0, None),
    "trace": call(libc.ptrace, 16, parent, None, None),
    "other limits": attempt(lambda: resource.prlimit(parent, resource.RLIMIT_CPU, (1, 1))),
    "own session": attempt(os.setsid),
    "own group": attempt(lambda: os.setpgid(0, 0)),
    "shared segment": call(libc.shmget, 0, 4096, 0o1600),
    "raw socket": attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)),
    "io_uring": call(libc.syscall, 425, 8, None),
    "abstract": attempt(lambda: socket.socket(socket.AF_UNIX).bind(b"\\0niwaki")),
}
"""
    )
    assert set(ask(start, rung, source).values()) == {"denied"}


def test_signals_stay_inside(start, rung):
    source = (
        TRY
        + """
import signal, subprocess
answer = {
    "outside": attempt(lambda: os.kill(int(sys.argv[1]), 0)),
    "itself": attempt(lambda: os.kill(os.getpid(), 0)),
}"""
    )
    answer = ask(start, rung, source, str(os.getpid()))
    assert answer == {"outside": "denied", "itself": "done"}


def test_a_service_on_this_machine_is_out_of_reach(start, rung, tmp_path):
    with socket.socket(socket.AF_UNIX) as local, socket.create_server(("127.0.0.1", 0)) as listener:
        path = Path(os.path.relpath(tmp_path)) / "s" if len(str(tmp_path)) > 90 else tmp_path / "s"
        local.bind(str(path))
        local.listen()
        source = (
            TRY
            + """
import socket
answer = [
    attempt(lambda: socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)),
    attempt(lambda: socket.socket(socket.AF_UNIX).connect(sys.argv[2])),
    attempt(lambda: socket.getaddrinfo("example.invalid", 80)),
]"""
        )
        assert ask(start, rung, source, str(listener.getsockname()[1]), str(path)) == ["denied"] * 3
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_a_pair_of_sockets_and_threads_still_work(start, rung):
    source = """
import socket, threading
left, right = socket.socketpair()
thread = threading.Thread(target=left.send, args=(b"x",)); thread.start(); thread.join()
answer = right.recv(1).decode()"""
    assert ask(start, rung, source) == "x"


def test_a_box_survives_the_way_to_the_launcher(rung, folder):
    box = ladder.engine_box(rung, folder, Limits(memory_bytes=1 << 30, cpu_seconds=1))
    assert type(box).from_json(box.to_json()) == box
    assert json.loads(box.to_json())["rung"] == rung


def test_syscall_numbers_are_told_apart():
    for architecture in ARCHITECTURES.values():
        assert len(set(architecture.numbers.values())) == len(architecture.numbers)


def test_syscall_numbers_are_the_headers_own():
    """Against the C library's headers, where they are installed."""
    import re

    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if not header.exists():
        pytest.skip("no kernel headers on this machine")
    known = {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", header.read_text())}
    ours = ARCHITECTURES["x86_64"].numbers
    assert {name: number for name, number in ours.items() if name in known and known[name] != number} == {}
    assert len(set(ours) & set(known)) > 50
