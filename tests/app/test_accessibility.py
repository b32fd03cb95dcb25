"""Every tab in Chromium: axe-core finds nothing serious, and nothing is wider than the window."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from rvc_lightning.cli.resolvers import DEMO_FOLDER

pytest.importorskip("gradio", reason="the extra 'app' is not installed")
pytest.importorskip("selenium", reason="selenium is not installed")
pytest.importorskip("axe_core_python", reason="axe-core-python is not installed")

from browser import REQUIREMENTS, Visitor, open_browser, start_page
from stubs import make_voice, quick_config

from rvc_lightning.app.page import TABS

pytestmark = REQUIREMENTS

AXE = Path(find_spec("axe_core_python").origin).with_name("axe.min.js")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("accessibility")
    for name in ("tmp", "downloads"):
        (folder / name).mkdir()
    make_voice(quick_config()).save(folder / "voices" / "anna.pth")
    return folder


@pytest.fixture(scope="module")
def address(folder):
    process, address, _ = start_page(folder)
    yield address
    process.kill()
    process.wait()


@pytest.fixture(scope="module", params=["light", "dark"])
def visitor(folder, address, request):
    driver = open_browser(folder / "downloads")
    preference = {"name": "prefers-color-scheme", "value": request.param}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [preference]})
    visitor = Visitor(driver, address)
    visitor.wait(lambda: visitor.value("#voice input") == "anna.pth", 120)
    visitor.upload(DEMO_FOLDER / "source" / "01.flac")
    visitor.convert()
    visitor.wait(lambda: visitor.find_all("#picture img"), 60)
    yield visitor
    driver.quit()


@pytest.mark.parametrize("tab", TABS)
def test_tab_is_accessible_and_fits_narrow_windows(visitor, tab):
    visitor.open_tab(tab)
    for header in visitor.find_all("button.label-wrap:not(.open)"):
        if header.is_displayed():
            visitor.driver.execute_script("arguments[0].click()", header)
    visitor.driver.execute_script(AXE.read_text(encoding="utf-8"))
    result = visitor.driver.execute_async_script("const done = arguments[0]; axe.run(document).then(done)")
    serious = [violation for violation in result["violations"] if violation["impact"] in ("serious", "critical")]
    assert [(entry["id"], [node["html"] for node in entry["nodes"]]) for entry in serious] == []
    visitor.resize(380)
    width = visitor.driver.execute_script("return document.documentElement.scrollWidth")
    visitor.resize(1280)
    assert width <= 380
