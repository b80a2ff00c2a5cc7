"""A loopback server that speaks the part of the Hugging Face hub's API that fetching a file needs, and can fail."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Files by ``owner/name/path``. Those in ``large`` are redirected to a content server, as the hub does with LFS."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.large: set[str] = set()
        self.lies: set[str] = set()  # files whose content is not what the headers promise
        self.cut_after: int | None = None  # bytes of a body after which the connection is dropped
        self.ranges = True  # whether range requests are honoured
        self.requests: list[tuple[str, str, str | None]] = []  # method, path, Range
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                hub.answer(self, body=False)

            def do_GET(self) -> None:
                hub.answer(self, body=True)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def gets(self) -> list[tuple[str, str | None]]:
        return [(path, asked) for method, path, asked in self.requests if method == "GET"]

    def answer(self, handler: BaseHTTPRequestHandler, body: bool) -> None:
        asked = handler.headers.get("Range")
        self.requests.append((handler.command, handler.path, asked))
        content_server = handler.path.startswith("/content/")
        name = handler.path.removeprefix("/content/").removeprefix("/datasets/").replace("/resolve/main/", "/")
        if name not in self.files:
            handler.send_response(404)
            handler.send_header("X-Error-Code", "EntryNotFound")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        data = self.files[name]
        if name in self.large and not content_server:
            handler.send_response(302)
            handler.send_header("Location", f"{self.url}/content/{name}")
            handler.send_header("X-Linked-Size", str(len(data)))
            handler.send_header("X-Linked-Etag", f'"{hashlib.sha256(data).hexdigest()}"')
            handler.send_header("X-Repo-Commit", COMMIT)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        etag = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked and self.ranges else 0
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.send_header("ETag", f'"{etag}"')
        handler.send_header("X-Repo-Commit", COMMIT)
        handler.send_header("Content-Length", str(len(data) - start))
        handler.end_headers()
        if body:
            rest = (b"~" * len(data) if name in self.lies else data)[start:]
            handler.wfile.write(rest[: self.cut_after])
            if self.cut_after is not None and self.cut_after < len(rest):
                handler.wfile.flush()
                handler.close_connection = True
