"""A local stand-in for the Hugging Face hub."""

import contextlib
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from rvc_lightning.io.hub import HubFile

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FILE = HubFile("owner/name", "folder/weights.pth", len(CONTENT), SHA256, "MIT")


class Handler(BaseHTTPRequestHandler):
    """Serves files and byte ranges like the hub; truncates the first response after `server.cut_at` bytes."""

    def do_HEAD(self):
        self.respond()

    def do_GET(self):
        if self.path in self.server.files:
            self.server.ranges.append(self.headers.get("Range"))
        self.respond(with_content=True)

    def respond(self, with_content=False):
        content = self.server.files.get(self.path)
        if content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        first = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if first else 200)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - first))
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if with_content:
            cut_at, self.server.cut_at = self.server.cut_at, None
            self.wfile.write(content[first:cut_at])
            self.close_connection = True

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def hub_server():
    """Serve `FILE`; `files` maps more paths to contents, and `ranges` lists the Range header of each GET."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.ranges, server.cut_at = {"/owner/name/resolve/main/folder/weights.pth": CONTENT}, [], None
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
