"""Fetching pretrained files, from a stand-in of the hub on this machine."""

import hashlib
import os
import re
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from huggingface_hub import close_session, constants
from stubs import make_hubert

from rvc_lightning.content import build_content_encoder
from rvc_lightning.errors import AssetError, ConfigurationError, OutOfSpaceError
from rvc_lightning.io import hub as hub_module
from rvc_lightning.io.hub import HubFile, NotFetchedError, choose, fetch, fetch_all, find, known_files, table

CONF = Path(__file__).parents[2] / "conf"
CONTENT = b"weights" * 1000
RIGHT = hashlib.sha256(CONTENT).hexdigest()
FILE = HubFile("owner/name", "folder/weights.pth", len(CONTENT), RIGHT, "MIT")
COMMAND = """
import sys
from pathlib import Path
from rvc_lightning.io import hub
hub._TABLE = Path(sys.argv.pop(1))
from rvc_lightning.download import main
main()
"""


class Hub(BaseHTTPRequestHandler):
    """Serves files as the hub does, from any byte on; of `cut_at` bytes at most, where the server says so."""

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        if self.path in self.server.files:
            self.server.ranges.append(self.headers.get("Range"))
        self.answer(with_content=True)

    def answer(self, with_content=False):
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


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files, server.ranges, server.cut_at = {"/owner/name/resolve/main/folder/weights.pth": CONTENT}, [], None
    server.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def home(monkeypatch, tmp_path):
    """A hub's cache of this test's own."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "home" / "assets"))
    return tmp_path / "home"


@pytest.fixture
def hub(monkeypatch, server, home):
    serve_from(monkeypatch, server.address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return server


def serve_from(monkeypatch, address):
    """What HF_ENDPOINT decides when huggingface_hub is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{address}/{template.split('/', 3)[3]}")


def test_a_file_is_fetched_once_and_then_needs_no_network(hub, monkeypatch):
    assert find(FILE) is None
    path = fetch(FILE, "do this")
    assert path.read_bytes() == CONTENT and find(FILE) == path
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(FILE, "do this") == path
    assert hub.ranges == [None]


def test_an_interrupted_file_goes_on_where_it_was(hub, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 500)
    hub.cut_at = 3000
    assert fetch(FILE, "do this").read_bytes() == CONTENT
    assert hub.ranges == [None, "bytes=3000-"]


@pytest.mark.parametrize("in_folder", [False, True])
@pytest.mark.parametrize(
    ("size", "sha256", "message"), [(None, "0" * 64, "another content"), (5, None, "7000 bytes instead of 5")]
)
def test_another_content_is_refused_and_removed(hub, tmp_path, size, sha256, message, in_folder):
    folder = tmp_path / "own" if in_folder else None
    wrong = HubFile(FILE.repository, FILE.path, size, sha256)
    with pytest.raises(AssetError, match=f"{message}.*it was removed"):
        fetch(wrong, "do this", folder)
    assert find(wrong, folder) is None
    assert fetch(FILE, "do this", folder).read_bytes() == CONTENT


@pytest.mark.parametrize("offline", [False, True])
def test_a_file_that_is_not_there_is_named_with_its_address_its_place_and_the_way_out(hub, home, monkeypatch, offline):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    with pytest.raises(AssetError) as caught:
        fetch(HubFile("owner/name", "folder/other.pth"), "do this")
    said = str(caught.value)
    assert said.startswith("'folder/other.pth' of the hub repository 'owner/name' cannot be had (")
    assert "https://huggingface.co/owner/name/resolve/main/folder/other.pth" in said and "do this" in said
    assert f"it belongs to '{home / 'assets/rvc_lightning/owner/name/folder/other.pth'}'" in said


def test_a_server_that_is_gone_is_one_error_and_no_noise(hub, monkeypatch, caplog, capfd):
    serve_from(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    caplog.set_level("WARNING", "rvc_lightning")
    with pytest.raises(AssetError, match="cannot be had"):
        fetch(FILE, "do this")
    assert caplog.messages == [] and capfd.readouterr().err == ""


def no_names(*args, **options):
    raise socket.gaierror(-2, "Name or service not known")


@pytest.fixture
def lost(hub, monkeypatch):
    """The hub under a name that this machine does not know; waiting for it would fail."""
    for name in ("http_proxy", "all_proxy", "no_proxy"):
        for spelling in (name, name.upper()):
            monkeypatch.delenv(spelling, raising=False)
    serve_from(monkeypatch, "http://hub.invalid")
    monkeypatch.setattr("socket.getaddrinfo", no_names)
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it tries again"))
    close_session()
    yield hub
    close_session()


def test_a_name_that_is_not_known_is_told_at_once(lost):
    with pytest.raises(NotFetchedError, match=r"cannot be had \(the name hub.invalid is not found: is there a network"):
        fetch(FILE, "do this")


def test_many_files_of_a_name_that_is_not_known_are_one_line(lost):
    with pytest.raises(
        AssetError, match=r"^1 of 1 file cannot be fetched: the name hub\.invalid is not found.*mirror$"
    ):
        fetch_all({"a": FILE})


def test_what_was_fetched_before_needs_no_name(hub, monkeypatch):
    path = fetch(FILE, "do this")
    monkeypatch.setattr("socket.getaddrinfo", no_names)
    serve_from(monkeypatch, "http://hub.invalid")
    assert fetch(FILE, "do this") == path
    fetch_all({"a": FILE})


def test_with_a_proxy_names_are_its_own_business(lost, monkeypatch):
    monkeypatch.setattr("socket.getaddrinfo", lambda *args, **options: pytest.fail("the name is looked up here"))
    monkeypatch.setattr(
        "rvc_lightning.io.hub.hf_hub_download", lambda *args, **options: asked.append(options) or __file__
    )
    monkeypatch.setattr("rvc_lightning.io.hub._difference", lambda path, file: "")
    asked = []
    monkeypatch.setenv("http_proxy", lost.address)
    fetch(FILE, "do this")
    assert [options["local_files_only"] for options in asked] == [False]
    monkeypatch.setenv("no_proxy", "hub.invalid")
    monkeypatch.setattr("socket.getaddrinfo", no_names)
    fetch(FILE, "do this")
    assert [options["local_files_only"] for options in asked] == [False, True]


def test_a_download_is_announced_and_shows_its_progress(hub, monkeypatch, caplog, capfd, tmp_path):
    # That huggingface_hub shows its bars although nobody sits at a terminal.
    monkeypatch.setenv("TQDM_POSITION", "-1")
    caplog.set_level("INFO", "rvc_lightning")
    # Even after an encoder was loaded, whose library has bars of its own.
    build_content_encoder("hubert", path=str(make_hubert(tmp_path / "hubert", layers=1)))
    fetch(FILE, "do this")
    assert caplog.messages == ["Fetching 'folder/weights.pth' (7.0 kB) from 127.0.0.1"]
    assert "100%" in capfd.readouterr().err
    fetch(FILE, "do this")
    assert len(caplog.messages) == 1


def test_all_files_that_belong_together_and_the_command_that_fetches_them_are_named(home):
    names = ("content/contentvec/config.json", "content/contentvec/pytorch_model.bin")
    pair = [known_files()[name] for name in names]
    with pytest.raises(NotFetchedError) as caught:
        hub_module.fetch_together(pair, "do this")
    said, folder = str(caught.value), home / "assets/rvc_lightning"
    assert all(f"'{file.path}'" in said and file.address in said for file in pair)
    assert f"they belong to the folder '{pair[0].place_in(folder).parent}'" in said
    assert (
        f"'python -m rvc_lightning.download files=contentvec folder=FOLDER' fetches what belongs to '{folder}'" in said
    )
    assert said == f"{caught.value.problem} Or: do this"
    pair[0].place_in(folder).parent.mkdir(parents=True)
    pair[0].place_in(folder).write_bytes(b" " * pair[0].size_bytes)
    with pytest.raises(NotFetchedError) as caught:
        hub_module.fetch_together(pair, "do this")
    assert str(caught.value).startswith(f"'{pair[1].path}' of the hub repository")


@pytest.mark.parametrize("name", ["pitch/rmvpe/rmvpe.pt", "pretrained/hifigan_nsf/v2/40000/generator"])
def test_the_command_that_is_named_fetches_the_file(home, name):
    with pytest.raises(NotFetchedError) as caught:
        fetch(known_files()[name], "do this")
    assert name in choose([re.search(r"files=(\S+)", str(caught.value))[1]])


def test_a_file_put_in_place_by_hand_needs_no_network(home):
    place = home / "assets/rvc_lightning/owner/name/folder/weights.pth"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"another")
    with pytest.raises(AssetError, match=r"weights.pth' has 7 bytes instead of 7000; remove it"):
        fetch(FILE, "do this")
    place.write_bytes(CONTENT)
    assert fetch(FILE, "do this") == find(FILE) == place


def test_a_folder_for_another_machine(hub, home, tmp_path):
    path = fetch(FILE, "do this", tmp_path / "usb")
    assert path == tmp_path / "usb" / "owner" / "name" / "folder" / "weights.pth"
    fetch(FILE, "do this", tmp_path / "usb")
    assert len(hub.ranges) == 1
    assert find(FILE) is None and find(FILE, tmp_path / "usb") == path


def test_one_that_fails_does_not_stop_the_others(hub, caplog):
    caplog.set_level("INFO")
    missing = HubFile("owner/name", "other.pth")
    wrong = HubFile("owner/name", "wrong.pth", sha256=RIGHT)
    hub.files["/owner/name/resolve/main/wrong.pth"] = b"something"
    with pytest.raises(AssetError) as caught:
        fetch_all({"a/missing": missing, "b/wrong": wrong, "c/right": FILE})
    said = str(caught.value)
    assert said.startswith("2 of 3 files were not fetched:\n  a/missing: 'other.pth'")
    assert "\n  b/wrong: 'wrong.pth'" in said and "c/right" not in said
    assert f"c/right: '{find(FILE)}' (licence: MIT)" in caplog.text


def test_a_full_disk_is_seen_before(hub, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": 6999}))
    with pytest.raises(OutOfSpaceError, match=r"need 0.0 GB.*choose fewer by files="):
        fetch_all({"a": FILE})
    assert hub.ranges == []
    monkeypatch.undo()


def test_files_are_chosen_by_parts_of_their_names():
    every = known_files()
    assert choose(["all"]) == every
    assert {name.split("/")[0] for name in choose(["content", "pitch"])} == {"content", "pitch"}
    assert list(choose(["rmvpe", "contentvec"])) == [
        "content/contentvec/config.json",
        "content/contentvec/pytorch_model.bin",
        "pitch/rmvpe/rmvpe.pt",
    ]
    assert len(choose(["pretrained/hifigan/v2/40000"])) == 2
    assert "content/spin-v2/config.json" not in choose(["spin"])
    for word in ("hifi", "", "/"):
        with pytest.raises(ConfigurationError, match="there is no such file; choose all, one of chinese-hubert-base"):
            choose([word])


def test_the_table_says_what_is_here(hub):
    files = {"a/b": FILE, "c": HubFile("owner/name", "other.pth")}
    assert [line.split() for line in table(files).splitlines()[1:]] == [
        ["a/b", "no", "7.0", "kB", "MIT", "owner/name", "folder/weights.pth"],
        ["c", "no", "?", "not", "stated", "owner/name", "other.pth"],
    ]
    fetch(FILE, "do this")
    assert table(files).splitlines()[1].split()[:2] == ["a/b", "yes"]


def test_the_command_fetches_a_content_encoder_for_a_machine_without_network(server, tmp_path, monkeypatch):
    made = make_hubert(tmp_path / "made")
    rows = ["name,repository,path,bytes,sha256,licence"]
    for name in ("config.json", "pytorch_model.bin"):
        content = (made / name).read_bytes()
        server.files[f"/owner/name/resolve/main/vec/{name}"] = content
        sha256 = hashlib.sha256(content).hexdigest()
        rows.append(f"content/contentvec/{name},owner/name,vec/{name},{len(content)},{sha256},MIT")
    rows.append("pitch/rmvpe/rmvpe.pt,owner/name,rmvpe.pt,5,,MIT")
    (tmp_path / "table.csv").write_text("\n".join(rows))

    def run(*overrides):
        settings = {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": server.address, "HF_HUB_OFFLINE": "0"}
        command = [sys.executable, "-c", COMMAND, str(tmp_path / "table.csv"), *overrides]
        return subprocess.run(command, cwd=tmp_path, env=os.environ | settings, capture_output=True, text=True)

    done = run("files=[contentvec,rmvpe]", "folder=usb/rvc_lightning")
    assert done.returncode == 1
    assert "\nError: 1 of 3 files were not fetched:\n" in done.stderr and "Traceback" not in done.stderr
    assert "pitch/rmvpe/rmvpe.pt: 'rmvpe.pt' of the hub repository 'owner/name' cannot be had" in done.stderr
    listed = run("folder=usb/rvc_lightning")
    assert listed.returncode == 0
    assert [line.split()[1] for line in listed.stdout.splitlines()[1:4]] == ["yes", "yes", "no"]

    # The other machine.
    monkeypatch.setattr(hub_module, "_TABLE", tmp_path / "table.csv")
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "usb"))
    known_files.cache_clear()
    try:
        encoder = build_content_encoder(name="contentvec", version="v1")
    finally:
        known_files.cache_clear()
    assert encoder(torch.zeros(1, 3200), torch.tensor([3200])).shape[2] == encoder.dim


def test_files_that_belong_together_come_to_the_one_that_was_put_there_by_hand(hub, home):
    beside = HubFile("owner/name", "folder/config.json")
    hub.files["/owner/name/resolve/main/folder/config.json"] = b"{}"
    folder = home / "assets/rvc_lightning/owner/name/folder"
    folder.mkdir(parents=True)
    (folder / "weights.pth").write_bytes(CONTENT)
    assert hub_module.fetch_together([beside, FILE], "do this") == folder
    assert (folder / "config.json").read_bytes() == b"{}" and len(hub.ranges) == 1


def test_the_table_names_pairs_and_encoders_whole():
    names = known_files()
    for name in names:
        kind, *rest = name.split("/")
        partner = {"config.json": "pytorch_model.bin", "generator": "discriminator"}
        if rest[-1] in partner:
            assert "/".join([kind, *rest[:-1], partner[rest[-1]]]) in names
    assert all(re.fullmatch(r"[0-9a-f]{64}", file.sha256) for file in names.values() if file.sha256)
    assert names["pretrained/hifigan_nsf/v2/40000/generator"].path == "pretrained_v2/f0G40k.pth"
    assert len({(file.repository, file.path) for file in names.values()}) == len(names)


@pytest.mark.parametrize("group", ["content", "pitch"])
def test_what_a_configuration_fetches_is_in_the_table_at_the_size_it_says(group):
    said = {}
    for path in (CONF / group).glob("*.yaml"):
        if found := re.search(r"(\d+) MB from the hub", path.read_text(encoding="utf-8")):
            said[path.stem] = int(found[1])
    known: dict[str, float] = {}
    for name, file in known_files().items():
        kind, component = name.split("/")[:2]
        if kind == group:
            known[component] = known.get(component, 0) + file.size_bytes / 1e6
    assert said == {component: round(megabytes) for component, megabytes in known.items()}


def test_the_official_pairs_are_of_the_size_that_is_said():
    megabytes = int(re.search(r"(\d+) MB from the hub", (CONF / "pretrained" / "official.yaml").read_text())[1])
    for rate in (32000, 40000, 48000):
        pair = choose([f"pretrained/hifigan_nsf/v2/{rate}"]).values()
        assert sum(file.size_bytes for file in pair) / 1e6 == pytest.approx(megabytes, abs=3)
