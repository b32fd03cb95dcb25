"""Downloads of pretrained files, from a stand-in for the hub on this machine."""

import re
import socket
from pathlib import Path

import pytest
from disks import limited_file_size
from hub_server import CONTENT, FILE, SHA256, hub_server
from huggingface_hub import close_session, constants
from stubs import make_hubert

from rvc_lightning.content import build_content_encoder
from rvc_lightning.errors import AssetError, ConfigurationError
from rvc_lightning.io.hub import (
    DownloadError,
    HubFile,
    fetch,
    fetch_all,
    fetch_folder,
    find_file,
    known_files,
    select_files,
)

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture
def home(monkeypatch, tmp_path):
    """Empty caches."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "home" / "assets"))
    return tmp_path / "home"


@pytest.fixture
def hub(monkeypatch, home):
    with hub_server() as server:
        set_endpoint(monkeypatch, server.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield server


def set_endpoint(monkeypatch, url):
    """Set the address that HF_ENDPOINT sets when huggingface_hub is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{url}/{template.split('/', 3)[3]}")


def test_file_is_downloaded_once(hub, monkeypatch):
    assert find_file(FILE) is None
    path = fetch(FILE, "do this")
    assert path.read_bytes() == CONTENT and find_file(FILE) == path
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(FILE, "do this") == path
    assert hub.ranges == [None]


def test_interrupted_download_is_resumed(hub, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 500)
    hub.cut_at = 3000
    assert fetch(FILE, "do this").read_bytes() == CONTENT
    assert hub.ranges == [None, "bytes=3000-"]


@pytest.mark.parametrize("in_folder", [False, True])
def test_download_on_a_full_disk_is_an_error(hub, tmp_path, in_folder):
    folder = tmp_path / "own" if in_folder else None
    with limited_file_size(len(CONTENT) // 2), pytest.raises(DownloadError, match=r"cannot be downloaded \(.*large"):
        fetch(FILE, "do this", folder)
    assert find_file(FILE, folder) is None
    assert fetch(FILE, "do this", folder).read_bytes() == CONTENT


@pytest.mark.parametrize("in_folder", [False, True])
@pytest.mark.parametrize(
    ("size", "sha256", "message"), [(None, "0" * 64, "unexpected content"), (5, None, "7000 bytes instead of 5")]
)
def test_wrong_content_is_removed(hub, tmp_path, size, sha256, message, in_folder):
    folder = tmp_path / "own" if in_folder else None
    wrong = HubFile(FILE.repository, FILE.path, size, sha256)
    with pytest.raises(DownloadError, match=f"{message}.*it was removed"):
        fetch(wrong, "do this", folder)
    assert find_file(wrong, folder) is None
    assert fetch(FILE, "do this", folder).read_bytes() == CONTENT


@pytest.mark.parametrize("offline", [False, True])
def test_error_for_a_missing_file_explains_how_to_get_it(hub, home, monkeypatch, offline):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    with pytest.raises(DownloadError) as caught:
        fetch(HubFile("owner/name", "folder/other.pth"), "do this")
    text = str(caught.value)
    assert text.startswith("'folder/other.pth' of the hub repository 'owner/name' cannot be downloaded (")
    assert "save https://huggingface.co/owner/name/resolve/main/folder/other.pth as '" in text
    assert f"'{home / 'assets/rvc_lightning/owner/name/folder/other.pth'}'. Or: do this" in text


def test_server_that_is_gone_is_one_error_without_warnings(hub, monkeypatch, caplog, capfd):
    set_endpoint(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    caplog.set_level("WARNING", "rvc_lightning")
    with pytest.raises(DownloadError, match="cannot be downloaded"):
        fetch(FILE, "do this")
    assert caplog.messages == [] and capfd.readouterr().err == ""


def fail_to_resolve(*args, **options):
    raise socket.gaierror(-2, "Name or service not known")


@pytest.fixture
def unresolved(hub, monkeypatch):
    """The hub under a host name that cannot be resolved; retries fail."""
    for name in ("http_proxy", "all_proxy", "no_proxy"):
        for spelling in (name, name.upper()):
            monkeypatch.delenv(spelling, raising=False)
    set_endpoint(monkeypatch, "http://hub.invalid")
    monkeypatch.setattr("socket.getaddrinfo", fail_to_resolve)
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it retries"))
    close_session()
    yield hub
    close_session()


def test_unresolved_host_name_is_reported_without_retries(unresolved):
    with pytest.raises(
        DownloadError, match=r"downloaded \(the host name hub.invalid cannot be resolved; check the net"
    ):
        fetch(FILE, "do this")


def test_unresolved_host_name_is_one_line_for_many_files(unresolved):
    message = r"^1 of 1 file\(s\) cannot be downloaded: the host name hub\.invalid cannot be .* mirror$"
    with pytest.raises(AssetError, match=message):
        fetch_all({"a": FILE})


def test_cached_file_needs_no_host_name(hub, monkeypatch):
    path = fetch(FILE, "do this")
    monkeypatch.setattr("socket.getaddrinfo", fail_to_resolve)
    set_endpoint(monkeypatch, "http://hub.invalid")
    assert fetch(FILE, "do this") == path
    fetch_all({"a": FILE})


def test_proxy_resolves_host_names(unresolved, monkeypatch):
    calls = []
    monkeypatch.setattr("socket.getaddrinfo", lambda *args, **options: pytest.fail("the name is resolved here"))
    monkeypatch.setattr(
        "rvc_lightning.io.hub.hf_hub_download", lambda *args, **options: calls.append(options) or __file__
    )
    monkeypatch.setattr(HubFile, "mismatch", lambda self, path: "")
    monkeypatch.setenv("http_proxy", unresolved.url)
    fetch(FILE, "do this")
    assert [options["local_files_only"] for options in calls] == [False]
    monkeypatch.setenv("no_proxy", "hub.invalid")
    monkeypatch.setattr("socket.getaddrinfo", fail_to_resolve)
    fetch(FILE, "do this")
    assert [options["local_files_only"] for options in calls] == [False, True]


def test_download_is_logged_and_shows_its_progress(hub, monkeypatch, caplog, capfd, tmp_path):
    # huggingface_hub then shows its bars without a terminal.
    monkeypatch.setenv("TQDM_POSITION", "-1")
    caplog.set_level("INFO", "rvc_lightning")
    # Loading an encoder turns off the bars of transformers, not those of downloads.
    build_content_encoder("hubert", path=str(make_hubert(tmp_path / "hubert", layers=1)))
    fetch(FILE, "do this")
    assert caplog.messages == ["Downloading 'folder/weights.pth' (7.0 kB) from 127.0.0.1"]
    assert "100%" in capfd.readouterr().err
    fetch(FILE, "do this")
    assert len(caplog.messages) == 1


def test_error_names_all_missing_files_and_the_command_that_downloads_them(home):
    names = ("content/contentvec/config.json", "content/contentvec/pytorch_model.bin")
    pair = [known_files()[name] for name in names]
    with pytest.raises(DownloadError) as caught:
        fetch_folder(pair, "do this")
    text, folder = str(caught.value), home / "assets/rvc_lightning"
    assert all(f"'{file.path}'" in text and file.url in text for file in pair)
    assert f"in the folder '{pair[0].path_in(folder).parent}'" in text
    command = "python -m rvc_lightning.download files=contentvec folder=FOLDER"
    assert f"run '{command}', and copy FOLDER to '{folder}' here" in text
    assert text == f"{caught.value.problem} Or: do this"
    pair[0].path_in(folder).parent.mkdir(parents=True)
    pair[0].path_in(folder).write_bytes(b" " * pair[0].size_bytes)
    with pytest.raises(DownloadError, match=f"^'{pair[1].path}' of the hub repository"):
        fetch_folder(pair, "do this")


@pytest.mark.parametrize("name", ["pitch/rmvpe/rmvpe.pt", "pretrained/hifigan_nsf/v2/40000/generator"])
def test_command_in_an_error_selects_the_file(home, name):
    with pytest.raises(DownloadError) as caught:
        fetch(known_files()[name], "do this")
    assert name in select_files([re.search(r"files=(\S+)", str(caught.value))[1]])


def test_manual_download_needs_no_network(home):
    path = home / "assets/rvc_lightning/owner/name/folder/weights.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"another")
    with pytest.raises(AssetError, match=r"weights.pth' has 7 bytes instead of 7000; remove it"):
        fetch(FILE, "do this")
    path.write_bytes(CONTENT)
    assert fetch(FILE, "do this") == find_file(FILE) == path


def test_manual_download_is_completed_beside_it(hub, home):
    beside = HubFile("owner/name", "folder/config.json")
    hub.files["/owner/name/resolve/main/folder/config.json"] = b"{}"
    folder = home / "assets/rvc_lightning/owner/name/folder"
    folder.mkdir(parents=True)
    (folder / "weights.pth").write_bytes(CONTENT)
    assert fetch_folder([beside, FILE], "do this") == folder
    assert (folder / "config.json").read_bytes() == b"{}" and len(hub.ranges) == 1


def test_download_to_a_folder(hub, home, tmp_path):
    path = fetch(FILE, "do this", tmp_path / "usb")
    assert path == tmp_path / "usb" / "owner" / "name" / "folder" / "weights.pth"
    fetch(FILE, "do this", tmp_path / "usb")
    assert len(hub.ranges) == 1
    assert find_file(FILE) is None and find_file(FILE, tmp_path / "usb") == path


def test_failed_download_does_not_stop_the_others(hub, caplog):
    caplog.set_level("INFO")
    missing = HubFile("owner/name", "other.pth")
    wrong = HubFile("owner/name", "wrong.pth", sha256=SHA256)
    hub.files["/owner/name/resolve/main/wrong.pth"] = b"something"
    with pytest.raises(AssetError) as caught:
        fetch_all({"a/missing": missing, "b/wrong": wrong, "c/right": FILE})
    text = str(caught.value)
    assert text.startswith("2 of 3 file(s) could not be downloaded:\n  a/missing: 'other.pth'")
    assert "\n  b/wrong: 'wrong.pth'" in text and "c/right" not in text
    assert f"c/right: '{find_file(FILE)}' (licence: MIT)" in caplog.text


def test_files_are_selected_by_parts_of_their_names():
    assert select_files(["all"]) == known_files()
    assert {name.split("/")[0] for name in select_files(["content", "pitch"])} == {"content", "pitch"}
    assert list(select_files(["rmvpe", "contentvec"])) == [
        "content/contentvec/config.json",
        "content/contentvec/pytorch_model.bin",
        "pitch/rmvpe/rmvpe.pt",
    ]
    assert len(select_files(["pretrained/hifigan/v2/40000"])) == 2
    assert "content/spin-v2/config.json" not in select_files(["spin"])
    for word in ("hifi", "", "/"):
        with pytest.raises(ConfigurationError, match=f"files={word}: not found; choose all, one of chinese-hubert"):
            select_files([word])


def test_table_is_complete():
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
def test_download_sizes_in_configurations_match_the_table(group):
    stated = {}
    for path in (CONF / group).glob("*.yaml"):
        if found := re.search(r"downloads (\d+) MB", path.read_text(encoding="utf-8")):
            stated[path.stem] = int(found[1])
    known: dict[str, float] = {}
    for name, file in known_files().items():
        kind, component = name.split("/")[:2]
        if kind == group:
            known[component] = known.get(component, 0) + file.size_bytes / 1e6
    assert stated == {component: round(megabytes) for component, megabytes in known.items()}


def test_size_of_official_pairs_matches_the_table():
    megabytes = int(
        re.search(r"downloads (\d+) MB", (CONF / "pretrained" / "official.yaml").read_text(encoding="utf-8"))[1]
    )
    for rate in (32000, 40000, 48000):
        pair = select_files([f"pretrained/hifigan_nsf/v2/{rate}"]).values()
        assert sum(file.size_bytes for file in pair) / 1e6 == pytest.approx(megabytes, abs=3)
