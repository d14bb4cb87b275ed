"""A server that accepts connections and then answers too slowly, or not at all."""

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 400\r\n\r\n"
SILENT = (b"", b"")
DRIPPING_HEADERS = (b"", HEAD * 9)
DRIPPING_BODY = (HEAD, b" " * 400)


@contextmanager
def stalled(at_once: bytes, then: bytes, pause: float = 0.02) -> Generator[str]:
    """Serve some bytes at once and the others one by one, then nothing; yields the address."""
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.01)

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(at_once)
            for byte in then:
                if over.wait(pause):
                    return
                connection.sendall(bytes([byte]))
            over.wait(30)

    def serve() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    server = threading.Thread(target=serve)
    server.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        over.set()
        server.join()
        listener.close()
