"""Fetching pretrained files, from a stand-in of the hub on this machine."""

import hashlib
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rvc_lightning.hub import known_files

CONTENT = b"weights" * 1000
RIGHT = hashlib.sha256(CONTENT).hexdigest()
SCRIPT = """
import sys
from rvc_lightning.errors import AssetError
from rvc_lightning.hub import HubFile, fetch
path, size, sha256 = sys.argv[1:]
try:
    print(fetch(HubFile("owner/name", path, int(size) or None, sha256 or None), "do this").read_bytes()[:7])
except AssetError as error:
    print("AssetError:", error)
"""


class Hub(BaseHTTPRequestHandler):
    """Serves owner/name/weights.pth as the hub does, whatever was asked of it."""

    def do_HEAD(self):
        found = self.path == "/owner/name/resolve/main/folder/weights.pth"
        self.send_response(200 if found else 404)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", '"1234"')
        self.send_header("Content-Length", str(len(CONTENT) if found else 0))
        if not found:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()
        return found

    def do_GET(self):
        if self.do_HEAD():
            self.wfile.write(CONTENT)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def ask(tmp_path):
    def run(path="folder/weights.pth", size=0, sha256="", **environment):
        settings = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"} | environment
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, path, str(size), sha256],
            env=os.environ | settings,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    return run


def test_a_file_is_fetched_once_and_then_needs_no_network(hub, ask):
    assert "b'weights'" in ask(sha256=RIGHT, size=len(CONTENT), HF_ENDPOINT=hub)
    assert "b'weights'" in ask(sha256=RIGHT, HF_HUB_OFFLINE="1")


@pytest.mark.parametrize(
    ("size", "sha256", "message"), [(0, "0" * 64, "another content"), (5, "", "7000 bytes instead of 5")]
)
def test_another_content_is_refused_and_removed(hub, ask, size, sha256, message):
    said = ask(size=size, sha256=sha256, HF_ENDPOINT=hub)
    assert "AssetError" in said and message in said
    assert "b'weights'" not in ask(sha256=RIGHT, HF_HUB_OFFLINE="1")


def test_a_file_that_is_not_there_is_named_with_its_address_and_the_way_out(hub, ask):
    for said in (ask("folder/other.pth", HF_ENDPOINT=hub), ask("folder/other.pth", HF_HUB_OFFLINE="1")):
        assert "AssetError: 'folder/other.pth' of the hub repository 'owner/name'" in said
        assert "https://huggingface.co/owner/name/resolve/main/folder/other.pth" in said and "do this" in said


def test_the_table_names_pairs_and_encoders_whole():
    names = known_files()
    for name in names:
        kind, *rest = name.split("/")
        partner = {"config.json": "pytorch_model.bin", "generator": "discriminator"}
        if rest[-1] in partner:
            assert "/".join([kind, *rest[:-1], partner[rest[-1]]]) in names
    assert all(file.sha256 is None or len(file.sha256) == 64 for file in names.values())
    assert names["pretrained/hifigan_nsf/v2/40000/generator"].path == "pretrained_v2/f0G40k.pth"
