"""`python -m benchmarks.http_load PORT PATH CONNECTIONS SECONDS`: answers a second, on loopback alone.

Raw sockets, in a process of its own, so that it shares no interpreter with what it measures.
"""

from __future__ import annotations

import asyncio
import sys
import time


async def _poll(port: int, path: str, until: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    answered = 0
    while time.monotonic() < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(head.decode(errors="replace"))
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))
        answered += 1
    writer.close()
    return answered


async def _all(port: int, path: str, connections: int, seconds: float) -> float:
    start = time.monotonic()
    counts = await asyncio.gather(*(_poll(port, path, start + seconds) for _ in range(connections)))
    return sum(counts) / (time.monotonic() - start)


if __name__ == "__main__":
    print(asyncio.run(_all(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))))
