"""Who may send requests: host, origin and token."""

import pytest

pytest.importorskip("gradio", reason="the extra 'app' is not installed")

from fastapi.testclient import TestClient
from sites import LIMITS, LOCAL, make_application
from starlette.websockets import WebSocketDisconnect

from rvc_lightning.app.access import Access, is_loopback
from rvc_lightning.app.catalog import VoiceCatalog
from rvc_lightning.app.service import ConversionService
from rvc_lightning.app.storage import visitor_files
from rvc_lightning.errors import ConfigurationError

TOKEN = "a-token-of-32-characters-or-more"
NETWORK = Access.of("0.0.0.0", 7860, TOKEN, ["voices.example"], is_https=True)
ROUTES = ("/", "/config", "/docs", "/live/", "/live/choices", "/api/v1/voices", "/api/v1/docs", "/api/v1/x")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A function that returns a client of a server with this access."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "voices").mkdir()
    service = ConversionService(VoiceCatalog(folder / "voices"), lambda voice, index: None, LIMITS)
    with visitor_files(max_bytes=10**6, keep_seconds=60) as files:
        applications = {access: make_application(service, files, folder, access) for access in (LOCAL, NETWORK)}
        yield lambda access=LOCAL, host="127.0.0.1:7860": TestClient(
            applications[access], base_url=f"http://{host}", follow_redirects=False
        )


def authorized(client):
    client.headers["authorization"] = f"Bearer {TOKEN}"
    return client


@pytest.mark.parametrize("path", ROUTES)
def test_every_route_checks_host_origin_and_token(site, path):
    found = site().get(path).status_code
    assert found in (200, 307, 404)
    assert site(host="evil.example").get(path).status_code == 400
    assert site().get(path, headers={"origin": "http://evil.example"}).status_code == 403
    assert site(NETWORK).get(path).status_code == 401
    assert authorized(site(NETWORK)).get(path).status_code == found


@pytest.mark.parametrize(
    ("host", "is_own", "is_own_on_network"),
    [
        ("127.0.0.1:7860", True, True),
        ("127.1.2.3", True, True),
        ("[::1]:7860", True, True),
        ("localhost", True, True),
        ("LOCALHOST:1", True, True),
        ("192.168.1.2:7860", False, True),
        ("[fe80::1]", False, True),
        ("voices.example:7860", False, True),
        ("evil.example", False, False),
        ("localhost.evil.example", False, False),
        ("127.0.0.1.evil.example", False, False),
        ("2130706433.", False, False),
        ("", False, False),
        ("[", False, False),
        ("é", False, False),
    ],
)
def test_hosts(host, is_own, is_own_on_network):
    assert (LOCAL.allows_host(host), NETWORK.allows_host(host)) == (is_own, is_own_on_network)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("authorization", "Bearer wrong"),
        ("authorization", f"Basic {TOKEN}"),
        ("authorization", TOKEN),
        ("authorization", "Bearer"),
        ("authorization", f"Bearer {TOKEN}x"),
        ("authorization", b"Bearer \xe9"),
        ("cookie", f"rvc_lightning_7861={TOKEN}"),
        ("cookie", "rvc_lightning_7860="),
        ("x-token", TOKEN),
    ],
)
def test_wrong_tokens_are_rejected(site, header, value):
    response = site(NETWORK).get("/api/v1/voices", headers={header: value})
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    assert response.headers["content-type"] == "application/problem+json" and TOKEN not in response.text


def test_link_sets_a_cookie_that_opens_the_page(site):
    client = site(NETWORK)
    assert client.get("/?token=wrong").status_code == 401
    assert client.get(f"/api/v1/voices?token={TOKEN}").status_code == 401
    response = client.get(f"/?token={TOKEN}")
    cookie = response.headers["set-cookie"]
    assert cookie == f"rvc_lightning_7860={TOKEN}; HttpOnly; Path=/; SameSite=strict; Secure"
    assert "url=/" in response.text and TOKEN not in response.text
    assert (response.headers["cache-control"], response.headers["referrer-policy"]) == ("no-store", "no-referrer")
    headers = {"cookie": f"a=b; {cookie.partition(';')[0]}"}
    assert client.get("/", headers=headers).status_code == 200
    assert client.get("/api/v1/voices", headers=headers).status_code == 200


def test_a_token_can_be_required_on_this_machine_too():
    access = Access.of("127.0.0.1", 7860, TOKEN, [], is_https=False)
    assert access.is_local and not access.allows_token(None) and access.allows_token(TOKEN)
    with pytest.raises(ConfigurationError, match="at least 16 characters"):
        Access.of("127.0.0.1", 7860, "short", [], is_https=False)
    assert Access.of("::", 1, None, [], is_https=False).token != Access.of("::", 1, None, [], is_https=False).token


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 404),
        ({"origin": "http://127.0.0.1:7860"}, 404),
        ({"sec-fetch-site": "same-origin", "origin": "https://proxy.example"}, 404),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:8000"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}, 403),
    ],
)
def test_posts_of_other_sites_are_rejected(site, headers, status):
    assert site().post("/api/v1/jobs/none/cancel", headers=headers).status_code == status
    if status == 403:
        assert site().post("/gradio_api/queue/join", json={}, headers=headers).status_code == 403
        assert site().post("/gradio_api/upload", files={"files": b"a"}, headers=headers).status_code == 403


@pytest.mark.parametrize(("destination", "status"), [("document", 200), ("iframe", 403), ("image", 403)])
def test_links_of_other_sites_open_the_page_but_frames_do_not(site, destination, status):
    mode = "no-cors" if destination == "image" else "navigate"
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": mode, "sec-fetch-dest": destination}
    assert site().get("/", headers=headers).status_code == status


@pytest.mark.parametrize(
    ("access", "host", "headers"),
    [
        (LOCAL, "127.0.0.1:7860", {"origin": "http://evil.example"}),
        (LOCAL, "evil.example", {"origin": "http://evil.example"}),
        (NETWORK, "192.168.1.2:7860", {}),
        (NETWORK, "192.168.1.2:7860", {"cookie": "rvc_lightning_7860=wrong"}),
    ],
)
def test_websockets_are_checked_as_well(site, access, host, headers):
    with (
        pytest.raises(WebSocketDisconnect),
        site(access, host).websocket_connect(f"ws://{host}/live/stream", headers=headers),
    ):
        pass


def test_websocket_with_the_cookie_is_accepted(site):
    headers = {"cookie": f"rvc_lightning_7860={TOKEN}", "origin": "http://192.168.1.2:7860"}
    with site(NETWORK).websocket_connect("ws://192.168.1.2:7860/live/stream", headers=headers) as socket:
        socket.send_json({"voice": "missing"})
        assert "missing" in socket.receive_json()["error"]


def test_loopback_addresses_are_recognized():
    assert all(map(is_loopback, ["127.0.0.1", "127.1.2.3", "::1", "localhost"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "192.168.1.2", "example.com", ""]))
