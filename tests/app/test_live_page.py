"""The Live tab in Chromium: a file as the microphone, and what the page plays, compared with a conversion."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
import soxr
from spectral_distance import correlation, distance, mels
from stubs import make_voice, quick_config

from rvc_lightning import ConversionOptions, Voice, VoiceConverter
from rvc_lightning.cli.resolvers import DEMO_FOLDER

pytest.importorskip("gradio", reason="the extra 'app' is not installed")
pytest.importorskip("selenium", reason="selenium is not installed")

import soundfile
from browser import REQUIREMENTS, Visitor, open_browser

pytestmark = REQUIREMENTS

SECONDS = 300
SPEECH = DEMO_FOLDER / "source" / "01.flac"
RECORD = """
window.heard = [];
const tap = context.createScriptProcessor(4096, 1, 1);
tap.onaudioprocess = ({ inputBuffer }) => window.heard.push(...inputBuffer.getChannelData(0));
player.connect(tap);
tap.connect(context.destination);
return context.sampleRate;
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("live")
    (folder / "downloads").mkdir()
    make_voice(quick_config()).save(folder / "voices" / "anna.pth")
    make_voice(quick_config(speaker_count=1)).save(folder / "voices" / "ben.pth")
    audio, rate = soundfile.read(SPEECH, dtype="float32")
    # Chromium repeats the file, which needs a sampling rate that it supports.
    soundfile.write(folder / "speech.wav", soxr.resample(audio, rate, 48000), 48000, subtype="PCM_16")
    return folder


@pytest.fixture(scope="module")
def address(folder):
    command = [sys.executable, "-m", "rvc_lightning.app", "port=0", "trainer.accelerator=cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    log = folder / "log"
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=log.open("w"))
    ends = time.monotonic() + SECONDS
    while "Open http" not in log.read_text(encoding="utf-8"):
        assert process.poll() is None and time.monotonic() < ends, log.read_text(encoding="utf-8")
        time.sleep(0.2)
    yield log.read_text(encoding="utf-8").split("Open ")[1].split()[0]
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def driver(folder):
    driver = open_browser(
        folder / "downloads",
        "use-fake-device-for-media-stream",
        "use-fake-ui-for-media-stream",
        f"use-file-for-fake-audio-capture={folder / 'speech.wav'}",
        "autoplay-policy=no-user-gesture-required",
    )
    yield driver
    driver.quit()


def hear(driver):
    """Return what the page plays in the next seconds, in which Chromium plays the sentence twice."""
    driver.execute_script("window.heard = []")
    time.sleep(9.0)
    return np.array(driver.execute_script("return window.heard"), np.float32)


def test_the_tab_holds_the_live_page(driver, address):
    visitor = Visitor(driver, address)
    visitor.click("button[role=tab]:nth-of-type(2)")
    frame = visitor.first("#live_page")
    visitor.wait(frame.is_displayed)
    driver.switch_to.frame(frame)
    visitor.wait(lambda: "anna.pth" in visitor.text("#voice"))
    assert visitor.first("#controls #transpose_semitones").get_attribute("type") == "range"
    assert visitor.first("#others #noise_scale").get_attribute("placeholder") == "off"
    assert visitor.first("#effects #effect_reverb").get_attribute("type") == "checkbox"
    driver.switch_to.default_content()


def test_controls_fit_the_voice_and_lists_are_updated(driver, address, folder):
    visitor = Visitor(driver, f"{address}/live/")
    visitor.wait(lambda: visitor.first("#index_rate").get_attribute("disabled"))
    assert visitor.first("#formant_semitones").is_enabled()
    make_voice(quick_config(generator="hifigan")).save(folder / "voices" / "flat.pth")
    driver.execute_script("voice.focus()")
    visitor.wait_for_text("#voice", "flat.pth")
    assert visitor.value("#voice") == "anna.pth"
    driver.execute_script("speaker.value = '1'; voice.value = 'flat.pth'; voice.onchange()")
    visitor.wait(lambda: visitor.first("#formant_semitones").get_attribute("disabled"))
    assert visitor.value("#speaker") == ""
    (folder / "voices" / "flat.pth").unlink()
    driver.execute_script("voice.blur(); voice.focus()")
    visitor.wait(lambda: "flat.pth" not in visitor.text("#voice"))
    visitor.wait(lambda: visitor.first("#formant_semitones").is_enabled())


def test_recordings_have_a_limit_and_the_last_one_is_kept(driver, address):
    visitor = Visitor(driver, f"{address}/live/")
    visitor.wait(lambda: "anna.pth" in visitor.text("#voice"))
    script = """
    startRecording();
    recorded.rate = 1;
    record.checked = true;
    keep("output", new Int16Array(4));
    keep("input", new Int16Array(arguments[0]));
    return [record.checked, recorded === null];
    """
    assert driver.execute_script(script, 1800) == [False, True]
    assert "ended after 30 minutes" in visitor.text("#files")
    (before,) = {link.get_attribute("href") for link in visitor.find_all("#files a[download='live_input.wav']")}
    assert driver.execute_script(script, 10) == [True, False]
    driver.execute_script("saveRecording()")
    assert "minutes" not in visitor.text("#files") and len(visitor.find_all("#files a")) == 2
    fetched = "const done = arguments[1]; fetch(arguments[0]).then(() => done(true), () => done(false))"
    assert not driver.execute_async_script(fetched, before)


def test_missing_devices_are_explained_and_the_figures_end(driver, address):
    visitor = Visitor(driver, f"{address}/live/")
    visitor.wait(lambda: "anna.pth" in visitor.text("#voice"))
    driver.execute_script("input.replaceChildren(); source.value = 'machine'; source.onchange(); start()")
    assert visitor.text("#status").startswith("No microphone or no output was found on this machine")
    assert "connect one" in driver.execute_script("return microphoneProblem(new DOMException('', 'NotFoundError'))")
    driver.execute_script("report({blocks: 1, input_db: -10, output_db: -10, f0_hz: 100, latency_seconds: 0.1})")
    assert "100 Hz" in visitor.text("#figures") and float(visitor.value("#input_level")) == -10
    driver.execute_script("stop('')")
    assert visitor.text("#figures") == "" and float(visitor.value("#input_level")) == -60


@pytest.mark.long
def test_speech_is_converted_and_changes_apply(driver, address, folder):
    visitor = Visitor(driver, f"{address}/live/")
    visitor.wait(lambda: "anna.pth" in visitor.text("#voice"))
    driver.execute_script("document.getElementById('preset').value = 'quality'")
    visitor.click("#start")
    visitor.wait_for_text("#status", "Live.", SECONDS)
    visitor.wait_for_text("#figures", "algorithm 36", 60)
    fixed = ("preset", "source", "input", "output")
    assert not any(visitor.first(f"#{name}").is_enabled() for name in fixed)
    rate = driver.execute_script(RECORD)
    visitor.click("#record")
    heard = hear(driver)
    visitor.click("#record")
    for link in visitor.find_all("#files a"):
        link.click()
    recordings = [folder / "downloads" / f"live_{name}.wav" for name in ("input", "output")]
    visitor.wait(lambda: all(path.exists() for path in recordings), 60)
    for path in recordings:
        audio, recorded_rate = soundfile.read(path)
        assert recorded_rate == rate and len(audio) > 5 * rate and np.abs(audio).max() > 0.01
    assert np.abs(heard).max() > 0.01
    # A stream has the loudness of the voice.
    options = ConversionOptions(volume_envelope=1.0)
    converter = VoiceConverter(Voice.load(folder / "voices" / "anna.pth"))
    expected, voice_rate = converter.convert(SPEECH, options)
    other, _ = converter.convert(DEMO_FOLDER / "source" / "02.flac", options)
    # The untrained voice hums: only changes over time depend on the sentence.
    near, far = (correlation(mels(heard, rate), mels(audio, voice_rate)) for audio in (expected, other))
    assert near > 1.3 * far
    driver.execute_script("bypass.checked = true; bypass.onchange()")
    time.sleep(1.0)
    original = mels(hear(driver), rate)
    near, far = (
        distance(original, mels(*soundfile.read(DEMO_FOLDER / "source" / name))) for name in ("01.flac", "02.flac")
    )
    assert near < 0.5 * far
    driver.execute_script("bypass.checked = false; bypass.onchange()")
    driver.execute_script("voice.value = 'ben.pth'; voice.onchange(); mute.checked = true; mute.onchange()")
    visitor.wait(lambda: driver.execute_script("return output_level.value") < -55, 60)
    driver.execute_script("const field = document.getElementById('speaker'); field.value = '99'; field.onchange()")
    visitor.wait_for_text("#status", "speaker=99", 60)
    driver.execute_script("const field = document.getElementById('speaker'); field.value = '0'; field.onchange()")
    visitor.wait_for_text("#status", "Live.", 60)
    visitor.click("#start")
    visitor.wait_for_text("#status", "Stopped.")
    assert all(visitor.first(f"#{name}").is_enabled() for name in fixed)


def test_one_visitor_at_a_time_and_none_of_other_sites(driver, address):
    visitor = Visitor(driver, f"{address}/live/")
    visitor.wait(lambda: "anna.pth" in visitor.text("#voice"))
    script = """
    const done = arguments[arguments.length - 1], other = new WebSocket(`ws://${location.host}/live/stream`);
    other.onopen = () => other.send(JSON.stringify(arguments[0]));
    other.onmessage = ({ data }) => done(data);
    """
    driver.set_script_timeout(60)

    def answer_to(message):
        return driver.execute_async_script(script, message)

    # The engine of the visitor before ends first.
    busy = "another visitor is live"
    answer = visitor.wait(lambda: next(
        (text for text in [answer_to({"voice": "../anna.pth", "sample_rate": 48000})] if busy not in text), None
    ), 60)  # fmt: skip
    assert "unknown voice '../anna.pth'" in answer
    assert "choose a whole number from 8000" in answer_to({"voice": "anna.pth", "sample_rate": 3})
    driver.get("data:text/html,<script>var socket</script>")
    refused = driver.execute_async_script(
        f"const done = arguments[arguments.length - 1], other = new WebSocket('ws{address[4:]}/live/stream');"
        "other.onclose = other.onerror = () => done('refused'); other.onopen = () => done('open');"
    )
    assert refused == "refused"
