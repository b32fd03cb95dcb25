"""A local https server with a self-signed certificate, and clients that trust it."""

import contextlib
import ipaddress
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import trustme

from rvc_lightning.io.links import LinkClient


class Server(ThreadingHTTPServer):
    """Prints nothing when a client disconnects."""

    def handle_error(self, request, client_address):
        pass


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files`; a text instead of content is a redirect."""

    def do_GET(self):
        self.server.requests.append(self.path)
        content = self.server.files.get(self.path.partition("?")[0])
        if content is None:
            self.send_error(404)
        elif isinstance(content, str):
            self.send_response(302)
            self.send_header("Location", content)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.send_response(200)
            if self.server.declares_size:
                self.send_header("Content-Length", str(len(content)))
            for name, value in self.server.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.send_content(content)

    def send_content(self, content):
        if self.server.byte_seconds:
            with contextlib.suppress(OSError):
                for byte in content:
                    self.wfile.write(bytes([byte]))
                    time.sleep(self.server.byte_seconds)
        else:
            self.wfile.write(content[: self.server.cut_at])

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def tls_server():
    """Serve `files` at `url`; `client` returns a client that accepts the server, at its loopback address only."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.files, server.requests, server.headers = {}, [], {}
    server.declares_size, server.cut_at, server.byte_seconds = True, None, 0.0
    server.url = f"https://localhost:{server.server_port}"
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)

    def client(**limits):
        loopback = ipaddress.ip_address("127.0.0.1")
        return LinkClient(**{"tls": trusted, "is_allowed": lambda address: address == loopback} | limits)

    server.client = client
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
