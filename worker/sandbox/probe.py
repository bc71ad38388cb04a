"""Run inside a box: tries what must not work and what must, and prints what happened as JSON.

Arguments: a file that it may not read, a folder where it may not write, a port of this machine that is listened on, and
its parent's process id. Standard library alone.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path


def works(action: str) -> bool:
    foreign, folder, port, pid = sys.argv[1:5]
    try:
        if action == "reads foreign files":
            Path(foreign).read_bytes()
        elif action == "lists foreign folders":
            os.listdir(folder)  # noqa: PTH208
        elif action == "writes foreign files":
            Path(folder, "probe").write_bytes(b"")
        elif action == "reads the parent's environment":
            return bool(Path(f"/proc/{pid}/environ").read_bytes())
        elif action == "connects":
            socket.create_connection(("127.0.0.1", int(port)), timeout=5).close()
        elif action == "sends datagrams":
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"", ("127.0.0.1", int(port)))
        elif action == "opens local sockets":
            socket.socket(socket.AF_UNIX).close()
        elif action == "writes its own files":
            Path("probe").write_bytes(b"")
        elif action == "starts processes":
            subprocess.run([sys.executable, "-I", "-S", "-c", ""], check=True, timeout=60)
        else:
            raise ValueError(action)
    except OSError:
        return False
    return True


FORBIDDEN = (
    "reads foreign files",
    "lists foreign folders",
    "writes foreign files",
    "reads the parent's environment",
    "connects",
    "sends datagrams",
    "opens local sockets",
)
NEEDED = ("writes its own files", "starts processes")

if __name__ == "__main__":
    print(json.dumps({action: works(action) for action in (*FORBIDDEN, *NEEDED)}))
