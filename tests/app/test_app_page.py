"""The page in Chromium, served by the command."""

import signal

import golden_rule
import numpy as np
import pytest
import soundfile
from stubs import make_voice, quick_config

from rvc_lightning.audio.encode import write_audio
from rvc_lightning.data.manifest import DatasetHeader, write_manifest
from rvc_lightning.io.files import write_json
from rvc_lightning.jobs.store import JobStore

pytest.importorskip("gradio", reason="the extra 'app' is not installed")
pytest.importorskip("selenium", reason="selenium is not installed")

from browser import REQUIREMENTS, Visitor, open_browser, start_page
from selenium.webdriver.common.action_chains import ActionChains

pytestmark = REQUIREMENTS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("app")
    (folder / "tmp").mkdir()
    (folder / "downloads").mkdir()
    make_voice(quick_config(), author="<b>Anna</b>").save(folder / "voices" / "anna.pth")
    make_voice(quick_config(speaker_count=1)).save(folder / "voices" / "deep" / "ben.pth")
    (folder / "voices" / "broken.pth").write_bytes(b"PK\x03\x04")
    write_audio(folder / "a song.wav", golden_rule.stub_audio("page", 0.5), 16000)
    write_audio(folder / "long.flac", np.full(8000 * 6, 0.1, dtype=np.float32), 8000)
    (folder / "text.wav").write_text("hello")
    return folder


@pytest.fixture(scope="module")
def server(folder):
    process, address, lines = start_page(folder, "limits.max_seconds=5", "limits.max_megabytes=1")
    yield process, address, lines
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def driver(folder):
    driver = open_browser(folder / "downloads")
    yield driver
    driver.quit()


@pytest.fixture
def visitor(driver, server):
    visitor = Visitor(driver, server[1])
    visitor.wait(lambda: visitor.first("#voice input").get_attribute("value") == "anna.pth")
    return visitor


def test_page_loads_in_full_width_with_the_button_in_view(visitor):
    for window in (1400, 380):
        visitor.driver.set_window_size(window, 1000)
        content, scrolled, width, button, height = visitor.driver.execute_script(
            "const box = s => document.querySelector(s).getBoundingClientRect(), page = document.documentElement;"
            "return [box('.gradio-container').width, page.scrollWidth, page.clientWidth, box('#convert').bottom,"
            " window.innerHeight]"
        )
        assert content == min(width, 1280) and scrolled == width
        assert button < height or window == 380


def test_recording_is_converted_and_downloaded(visitor, folder, server):
    visitor.wait_for_text("#unusable", "Not usable: 1")
    visitor.click("#about > button")
    visitor.wait_for_text("#facts", "<b>Anna</b>")
    visitor.upload(folder / "a song.wav")
    visitor.click("#options > button")
    visitor.type("#option-transpose_semitones input[type=number]", "12")
    visitor.type("#option-output_sample_rate input, #option-output_sample_rate textarea", "11025")
    visitor.choose("#option-output_format", "flac")
    assert visitor.convert().startswith("Done in")
    visitor.wait(lambda: visitor.find_all("#audio_b #waveform") and visitor.find_all("#picture img"))
    visitor.screenshot(folder / "page.png")
    # As Gradio does below the progress.
    visitor.driver.execute_script("document.querySelector('#status .html-container').classList.add('pending')")
    visitor.wait(lambda: not visitor.text("#status"))
    written = visitor.download(folder / "downloads")
    assert written.name == "a song_anna.flac" and not visitor.first("#stop").is_enabled()
    info = soundfile.info(written)
    assert (info.samplerate, info.frames, info.format) == (11025, 5513, "FLAC")
    assert np.abs(soundfile.read(written)[0]).max() > 1e-4
    foreign = {url for url in visitor.requests() if not url.startswith((server[1], "data:", "blob:"))}
    assert foreign == set()


def test_changed_preset_is_no_longer_chosen(visitor, folder):
    presets = folder / "voices" / "anna.presets"
    presets.mkdir()
    (presets / "high.yaml").write_text("transpose_semitones: 12\n")
    visitor.choose("#voice", "ben.pth")
    visitor.wait(lambda: not visitor.find_all("#speaker input"))
    visitor.choose("#voice", "anna.pth")
    visitor.choose("#preset", "high")
    transpose = "#option-transpose_semitones input[type=number]"
    visitor.wait(lambda: visitor.value(transpose) == "12")
    assert visitor.value("#preset input") == "high"
    visitor.type(transpose, "7")
    visitor.wait(lambda: visitor.value("#preset input") == "none")
    assert visitor.value(transpose) == "7"


def test_errors_are_shown_as_status(visitor, folder):
    assert visitor.convert() == "Drop or record something to convert first."
    visitor.upload(folder / "text.wav")
    assert visitor.convert().startswith("'text.wav' cannot be decoded")
    visitor.upload(folder / "long.flac")
    assert visitor.convert().startswith("'long.flac' is longer than the limit of 5 seconds")
    visitor.upload(folder / "a song.wav")
    visitor.click("#options > button")
    visitor.type("#option-proposed_pitch_hz input, #option-proposed_pitch_hz textarea", "high")
    assert visitor.convert().startswith("Proposed pitch (Hz) = 'high': choose a number from 50 to 1100 Hz")


def test_removed_voice_is_reported_and_leaves_the_list(visitor, folder):
    visitor.choose("#voice", "deep/ben.pth")
    visitor.wait(lambda: not visitor.find_all("#speaker input"))
    (folder / "voices" / "deep" / "ben.pth").unlink()
    visitor.upload(folder / "a song.wav")
    assert visitor.convert() == ("Unknown voice 'deep/ben.pth'; choose another, or refresh the list.")
    visitor.wait_until_quiet()
    visitor.click("#voice button[aria-label=Refresh]")
    visitor.wait(lambda: visitor.first("#voice input").get_attribute("value") == "anna.pth")


def test_jobs_are_listed_when_their_tab_is_opened(visitor, folder, monkeypatch):
    monkeypatch.setattr(JobStore, "wake", lambda self: None)
    store = JobStore(folder / "jobs")
    store.stop(store.submit("train", [], "An earlier training").id)
    # Without the ticks of the timer.
    visitor.driver.execute_script("window.setInterval = () => 0")
    visitor.open_tab("train")
    visitor.wait_for_text("#train_jobs", "An earlier training")


def test_deletion_is_confirmed_for_what_the_question_is_about(visitor, folder):
    for name in ("anna", "ben"):
        dataset = folder / "datasets" / name
        dataset.mkdir(parents=True)
        write_manifest(dataset, DatasetHeader(24000, {}, {}), [])
        write_json(dataset / "report.json", {"experiment": name})
    visitor.open_tab("datasets")
    visitor.wait_for_text("#dataset_report", "anna")
    visitor.click("#dataset_delete")
    visitor.wait_for_text("#dataset_question", "Delete the dataset 'anna'")
    visitor.choose("#dataset", "ben")
    visitor.wait(lambda: not visitor.text("#dataset_question"))
    visitor.click("#dataset_delete")
    visitor.wait_for_text("#dataset_question", "Delete the dataset 'ben'")
    ActionChains(visitor.driver).double_click(visitor.first("#dataset_delete_now")).perform()
    visitor.wait_for_text("#dataset_message", "The dataset 'ben' is deleted.")
    visitor.wait_for_text("#dataset_report", "anna")
    visitor.wait_until_quiet()
    assert not visitor.text("#dataset_question") and visitor.value("#dataset input") == "anna"
    assert [path.name for path in (folder / "datasets").iterdir()] == ["anna"]


def test_ctrl_c_stops_the_server_and_deletes_its_files(visitor, folder, server):
    process, _, lines = server
    visitor.upload(folder / "a song.wav")
    assert list((folder / "tmp").iterdir())
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert lines.get(timeout=5) == "Stopped.\n"
    assert lines.empty()
    assert [path.name for path in (folder / "tmp").iterdir() if path.name.startswith("rvc-app-")] == []


def test_page_continues_after_a_restart_of_the_server(driver, folder):
    process, address, _ = start_page(folder)

    def restart():
        visitor.wait_until_quiet()
        process.kill()
        process.wait()
        return start_page(folder, f"port={address.rpartition(':')[2]}")[0]

    try:
        visitor = Visitor(driver, address)
        visitor.open_tab("voices")
        visitor.wait_for_text("#voices_list", "anna.pth")
        process = restart()
        visitor.wait(lambda: "anna.pth" in visitor.text("#voices_tab #voices_list") and not visitor.text("#server"))
        visitor.type("#voices_search :is(input, textarea)", "ann")
        process = restart()
        visitor.wait_for_text("#server", "The server was restarted")
        assert visitor.value("#voices_search :is(input, textarea)") == "ann"
        visitor.click("#server button")
        visitor.wait(lambda: "anna.pth" in visitor.text("#voices_list") and not visitor.text("#server"))
        assert visitor.value("#voices_search :is(input, textarea)") == ""
    finally:
        process.kill()
        process.wait()
