"""What a disk, and a connection of this machine with itself, take for so many bytes.

`bench/snapshot_transfer.py` and the test of a rejoin compare transfers with them.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

PIECE_BYTES = 512 << 10


def disk_s(folder: Path, size: int) -> float:
    """Seconds until a new file of `size` bytes, written in pieces, is durable."""
    piece = os.urandom(PIECE_BYTES)
    path = folder / "rate"
    began = time.monotonic()
    with path.open("wb") as file:
        left = size
        while left > 0:
            left -= file.write(piece[:left])
        file.flush()
        os.fsync(file.fileno())
    took = time.monotonic() - began
    path.unlink()
    return took


def loopback_s(size: int) -> float:
    """Seconds until `size` bytes, in whole pieces, have come through a TCP connection."""
    server = socket.create_server(("127.0.0.1", 0))
    sender = socket.create_connection(server.getsockname())
    receiver, _ = server.accept()

    def send() -> None:
        for _ in range(0, size, PIECE_BYTES):
            sender.sendall(bytes(PIECE_BYTES))
        sender.close()

    thread = threading.Thread(target=send)
    began = time.monotonic()
    thread.start()
    while receiver.recv(1 << 20):
        pass
    took = time.monotonic() - began
    thread.join()
    receiver.close()
    server.close()
    return took
