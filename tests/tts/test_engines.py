"""Speech engines: espeak-ng as a program, Piper with a tiny voice, Edge with a local server."""

import asyncio
import json
import shutil
import sys
import threading

import numpy as np
import pytest
from defaults import shipped

from rvc_lightning.audio.encode import write_audio
from rvc_lightning.errors import AssetError, ConfigurationError
from rvc_lightning.tts import SPEECH_ENGINES, build_speech_engine

espeak = [
    pytest.mark.program,
    pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed"),
]


def build(name, **changes):
    return build_speech_engine(**shipped("tts", name) | changes)


@pytest.mark.parametrize("name", sorted(SPEECH_ENGINES))
def test_settings_are_checked(name):
    assert shipped("tts", name)["name"] == name
    with pytest.raises(ConfigurationError, match=r"unknown setting of tts 'vocie'"):
        build(name, vocie="x")


def test_unknown_engine_lists_the_choices():
    with pytest.raises(
        ConfigurationError, match="unknown speech engine 'festival'; choose one of: edge, espeak, piper"
    ):
        build_speech_engine("festival")


class TestEspeak:
    pytestmark = espeak

    def test_speaks_any_alphabet_and_length(self):
        engine = build("espeak")
        short, sample_rate = engine.speak("Hello.")
        long, _ = engine.speak("Hello, 你好, привет: \U0001f600 & <this> is longer.\nAnd this is a second line.")
        assert sample_rate == 22050 and short.dtype == np.float32 and short.ndim == 1
        assert len(long) > 2 * len(short) > sample_rate / 2 and 0.01 < np.abs(short).max() <= 1

    def test_speed_and_voice_change_the_speech(self):
        text = "The quick brown fox jumps over the lazy dog."
        fast, slow = (len(build("espeak", words_per_minute=speed).speak(text)[0]) for speed in (300, 100))
        assert fast < 0.6 * slow
        german = build("espeak", voice="de").speak(text)[0]
        assert len(german) != len(build("espeak").speak(text)[0])

    def test_unknown_voice_is_one_error(self):
        with pytest.raises(AssetError, match=r"tts.voice=nobody: espeak-ng failed: .*voice does not exist"):
            build("espeak", voice="nobody").speak("Hello.")

    def test_speed_out_of_range_is_rejected(self):
        with pytest.raises(
            ConfigurationError, match=r"tts.words_per_minute=9999: choose a whole number from 80 to 450"
        ):
            build("espeak", words_per_minute=9999)


def test_missing_espeak_is_named(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(ConfigurationError, match=r"tts=espeak requires the program espeak-ng.*tts=piper"):
        build("espeak")


@pytest.mark.parametrize(
    ("name", "module", "package"), [("piper", "piper", "piper-tts"), ("edge", "edge_tts", "edge-tts")]
)
def test_missing_packages_are_named(name, module, package, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    path = {"path": "voice.onnx"} if name == "piper" else {}
    with pytest.raises(ConfigurationError, match=rf'the package {package} .*pip install "rvc-lightning\[speech\]"'):
        build(name, **path)


def write_piper_voice(folder, speakers=1):
    """Write a voice that returns 100 samples of a constant per phoneme, scaled by its speaker."""
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    inputs = [("input", kinds.INT64, ["batch", "phonemes"]), ("input_lengths", kinds.INT64, ["batch"])]
    inputs += [("scales", kinds.FLOAT, [3])] + ([("sid", kinds.INT64, ["batch"])] if speakers > 1 else [])
    level = ["sid"] if speakers > 1 else ["one"]
    nodes = [
        helper.make_node("Add", [*level, "one"], ["level_int"]),
        helper.make_node("Cast", ["level_int"], ["level"], to=kinds.FLOAT),
        helper.make_node("Mul", ["input_lengths", "hop"], ["samples"]),
        helper.make_node("Expand", ["level", "samples"], ["flat"]),
        helper.make_node("Mul", ["flat", "scale"], ["audio"]),
        helper.make_node("Unsqueeze", ["audio", "axes"], ["output"]),
    ]
    constants = [("one", kinds.INT64, [1], [1]), ("hop", kinds.INT64, [1], [100]), ("scale", kinds.FLOAT, [1], [0.1])]
    graph = helper.make_graph(
        nodes,
        "voice",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info("output", kinds.FLOAT, [None, None])],
        [helper.make_tensor(*value) for value in [*constants, ("axes", kinds.INT64, [2], [0, 1])]],
    )
    path = folder / "voice.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    config = {
        "audio": {"sample_rate": 16000},
        "espeak": {"voice": "en-us"},
        "num_symbols": 256,
        "num_speakers": speakers,
        "speaker_id_map": {"anna": 0, "ben": 1} if speakers > 1 else {},
        "phoneme_type": "text",
        "phoneme_id_map": {"^": [1], "$": [2], "_": [0]} | {chr(code): [code] for code in range(32, 127)},
    }
    path.with_name("voice.onnx.json").write_text(json.dumps(config))
    return path


class TestPiper:
    @pytest.fixture(autouse=True)
    def package(self):
        pytest.importorskip("piper")

    def test_voice_is_loaded_and_speaks(self, tmp_path):
        engine = build("piper", path=str(write_piper_voice(tmp_path)))
        audio, sample_rate = engine.speak("hello")
        assert sample_rate == 16000 and audio.dtype == np.float32
        assert len(audio) % 100 == 0 and len(audio) >= 500 and audio.any()
        assert len(engine.speak("hello, hello")[0]) > len(audio)

    def test_speakers_by_name_and_number(self, tmp_path):
        path = str(write_piper_voice(tmp_path, speakers=2))
        for speaker in ("ben", 1, None):
            assert build("piper", path=path, speaker=speaker).speak("hello")[0].any()
        for speaker in ("carl", 2):
            with pytest.raises(ConfigurationError, match=rf"unknown speaker of the voice '{speaker}'; .*anna, ben"):
                build("piper", path=path, speaker=speaker)

    def test_files_that_are_no_voice_are_one_error(self, tmp_path):
        with pytest.raises(ConfigurationError, match=r"tts.path=... is missing: the voice, NAME.onnx"):
            build("piper")
        path = write_piper_voice(tmp_path)
        path.write_bytes(b"no onnx")
        for chosen in (path, tmp_path / "gone.onnx"):
            with pytest.raises(AssetError, match=r"choose a voice NAME.onnx with NAME.onnx.json beside it"):
                build("piper", path=str(chosen))


class EdgeServer:
    """A WebSocket server that answers each text with an mp3 file, as the service does."""

    def __init__(self, encoded):
        self.encoded, self.texts, self.ready = encoded, [], threading.Event()
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_until_complete, args=[self.serve()], daemon=True).start()
        assert self.ready.wait(30)

    async def serve(self):
        from aiohttp import web

        app = web.Application()
        app.router.add_get("/edge", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        self.done = asyncio.Event()
        self.ready.set()
        await self.done.wait()
        await runner.cleanup()

    async def answer(self, request):
        from aiohttp import web

        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive_str()
        self.texts.append(await socket.receive_str())
        header = b"X-RequestId:1\r\nContent-Type:audio/mpeg\r\nPath:audio\r\n"
        for start in range(0, len(self.encoded), 1000):
            await socket.send_bytes(len(header).to_bytes(2, "big") + header + self.encoded[start : start + 1000])
        await socket.send_str("Path:turn.end\r\n\r\n")
        await socket.close()
        return socket

    def stop(self):
        self.loop.call_soon_threadsafe(self.done.set)


class TestEdge:
    @pytest.fixture(autouse=True)
    def package(self):
        pytest.importorskip("edge_tts")

    @pytest.mark.slow
    def test_service_gets_the_text_and_returns_speech(self, tmp_path, monkeypatch):
        time = np.arange(24000) / 24000
        write_audio(tmp_path / "a.mp3", (0.3 * np.sin(2 * np.pi * 300 * time)).astype(np.float32), 24000)
        server = EdgeServer((tmp_path / "a.mp3").read_bytes())
        monkeypatch.setattr("edge_tts.communicate.WSS_URL", f"ws://127.0.0.1:{server.port}/edge?x=1")
        try:
            audio, sample_rate = build("edge", rate_percent=10).speak("Tea & milk")
        finally:
            server.stop()
        assert (sample_rate, audio.dtype, len(audio)) == (24000, np.float32, 24000)
        assert np.abs(audio).max() == pytest.approx(0.3, abs=0.05)
        (text,) = server.texts
        assert "Tea &amp; milk" in text and "EmmaMultilingual" in text and "rate='+10%'" in text

    @pytest.mark.slow
    def test_missing_network_is_one_error(self, monkeypatch):
        monkeypatch.setattr("edge_tts.communicate.WSS_URL", "ws://127.0.0.1:9/edge?x=1")
        with pytest.raises(AssetError, match=r"tts=edge: .* check the network .*, which work offline"):
            build("edge").speak("Hello.")

    def test_invalid_voice_is_one_error(self):
        with pytest.raises(AssetError, match=r"tts=edge: .*tts.voice=nobody"):
            build("edge", voice="nobody").speak("Hello.")
