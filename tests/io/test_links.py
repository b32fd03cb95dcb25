"""Downloads of links, from an https server on this machine with a self-signed certificate."""

import ipaddress
import json
import socket
from time import monotonic

import pytest
from huggingface_hub import constants
from tls_server import tls_server

from rvc_lightning.errors import AssetError
from rvc_lightning.io.links import LinkClient, is_link, is_public, resolve_link

CONTENT = b"weights" * 1000


@pytest.fixture
def server():
    with tls_server() as server:
        server.files["/anna.pth"] = CONTENT
        yield server


def read(client, link):
    with client.open(link) as download:
        return download.name, download.size_bytes, b"".join(download.blocks)


def test_file_is_downloaded(server):
    assert read(server.client(), f"{server.url}/anna.pth?download=true") == ("anna.pth", len(CONTENT), CONTENT)


def test_name_that_the_server_declares_is_used(server):
    server.headers["Content-Disposition"] = 'attachment; filename="ben.pth"'
    assert read(server.client(), f"{server.url}/anna.pth")[0] == "ben.pth"


def test_redirects_are_followed(server):
    server.files["/first"] = "/second"
    server.files["/second"] = f"{server.url}/anna.pth"
    assert read(server.client(), f"{server.url}/first")[2] == CONTENT


def test_endless_redirects_end(server):
    server.files["/loop"] = "/loop"
    with pytest.raises(AssetError, match=r"302 .* an infinite loop\.$"):
        read(server.client(), f"{server.url}/loop")


@pytest.mark.parametrize(
    "link",
    [
        "http://example.org/a.pth",
        "ftp://example.org/a.pth",
        "file:///etc/passwd",
        "https:///a.pth",
        "https://user:word@example.org/a.pth",
        "https://example.org:port/a.pth",
        "https://example.org/a b",
        "https://example.org/a\r\nHost: b",
        "https://[::1/a",
    ],
)
def test_other_links_are_rejected(link, server):
    with pytest.raises(AssetError, match="not a link that can be used: only https"):
        read(server.client(), link)
    server.files["/redirect"] = link.replace("\r\n", "")
    if link.isascii() and " " not in link:
        with pytest.raises(AssetError):
            read(server.client(), f"{server.url}/redirect")


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.1", "2130706433", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]"]
)
def test_links_to_this_machine_are_rejected(host, server):
    with pytest.raises(AssetError):
        read(LinkClient(), f"https://{host}:{server.server_port}/anna.pth")
    assert server.requests == []


def test_redirect_to_a_private_address_is_rejected(server):
    server.files["/redirect"] = "https://127.0.0.2/secret"
    with pytest.raises(AssetError, match=r"'127\.0\.0\.2' has no public address"):
        read(server.client(), f"{server.url}/redirect")


def test_address_that_was_checked_is_the_one_that_is_used(server, monkeypatch):
    """A name that is resolved once to a public address, and then to a private one (DNS rebinding)."""
    answers = iter(["192.0.2.1", "127.0.0.1"])
    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *args, **options: resolve(next(answers), *args, **options))
    checked, connected = [], []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: connected.append(address[0]))
    with pytest.raises(AssetError):
        read(server.client(is_allowed=lambda address: not checked.append(str(address))), f"{server.url}/anna.pth")
    assert connected == checked == ["192.0.2.1"]


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::5db8:d822", True),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("fe80::1", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_public_addresses(address, public):
    assert is_public(ipaddress.ip_address(address)) is public


def test_unknown_certificate_is_rejected(server):
    with pytest.raises(AssetError, match=r"certificate.*; check link and network, or download"):
        read(LinkClient(is_allowed=lambda address: True), f"{server.url}/anna.pth")


@pytest.mark.parametrize("declares_size", [True, False])
def test_size_is_limited(declares_size, server):
    server.declares_size = declares_size
    with pytest.raises(AssetError, match="larger than 0 MB, the limit"):
        read(server.client(max_bytes=1000), f"{server.url}/anna.pth")


def test_truncated_file_is_an_error(server):
    server.cut_at = 100
    with pytest.raises(AssetError, match="ended after 100 of 7000 bytes"):
        read(server.client(), f"{server.url}/anna.pth")


@pytest.mark.parametrize("declares_size", [True, False])
def test_time_is_limited(declares_size, server):
    server.byte_seconds, server.declares_size = 0.05, declares_size
    start = monotonic()
    with pytest.raises(AssetError, match="takes longer than 0 s"):
        read(server.client(max_seconds=0.4), f"{server.url}/anna.pth")
    assert monotonic() - start < 60


def test_missing_file_is_named(server):
    with pytest.raises(AssetError, match="the server answers 404"):
        read(server.client(), f"{server.url}/other.pth")


def test_links_are_told_from_paths():
    assert is_link("https://example.org/a") and is_link("http://x") and is_link("file:///a")
    assert not is_link("voices/anna.pth") and not is_link("C:\\anna.pth") and not is_link("a:b.pth")


@pytest.fixture
def hub(server, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    entries = [
        {"type": "directory", "path": "sub"},
        {"type": "file", "path": "sub/añna 1.pth", "size": 7000},
        {"type": "file", "path": "README.md", "size": 10},
    ]
    server.files["/api/models/me/voices/tree/main"] = json.dumps(entries).encode()
    return server


@pytest.mark.parametrize("page", ["me/voices", "me/voices/", "me/voices/tree/main"])
def test_page_of_a_repository_leads_to_its_files(page, hub):
    files = resolve_link(f"{hub.url}/{page}", hub.client())
    assert [(file.url.removeprefix(hub.url), file.name, file.size_bytes) for file in files] == [
        ("/me/voices/resolve/main/sub/a%C3%B1na%201.pth", "sub/añna 1.pth", 7000),
        ("/me/voices/resolve/main/README.md", "README.md", 10),
    ]


@pytest.mark.parametrize("view", ["blob", "resolve"])
def test_page_of_a_file_leads_to_the_file(view, hub):
    (file,) = resolve_link(f"{hub.url}/me/voices/{view}/main/sub/a%C3%B1na.pth?download=true", hub.client())
    assert file.url == f"{hub.url}/me/voices/resolve/main/sub/a%C3%B1na.pth" and file.name == "añna.pth"
    assert hub.requests == []


def test_other_pages_are_files(hub):
    for link in (f"{hub.url}/anna.pth", "https://example.org/me/voices", f"{hub.url}/datasets/me/tree/main"):
        assert [file.url for file in resolve_link(link, hub.client())] == [link]


@pytest.mark.parametrize("content", [b"[1]", b"[" * 100_000, b"no", b'[{"type": "file", "path": "a"}]'])
def test_unexpected_list_is_an_error(content, hub):
    hub.files["/api/models/me/voices/tree/main"] = content
    with pytest.raises(AssetError, match="something other than a list of files"):
        resolve_link(f"{hub.url}/me/voices", hub.client())
