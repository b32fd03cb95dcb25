"""Media decoded by FFmpeg: timelines, tracks, joined streams, playlists and failing decoders."""

import subprocess
import sys
import textwrap

import av
import numpy as np
import pytest
import soundfile
from media import buzz, write_media
from systems import POSIX

from rvc_lightning.audio import media_process
from rvc_lightning.audio.decode import decode_audio, load_audio, recorded_seconds
from rvc_lightning.audio.encode import write_audio
from rvc_lightning.errors import AudioError

pytestmark = pytest.mark.slow


def sounding(decoded):
    """Return the time of the first and the last sample with sound, in seconds."""
    loud = np.flatnonzero(np.abs(decoded.audio) > 0.05)
    return loud[0] / decoded.sample_rate, loud[-1] / decoded.sample_rate


FORMATS = {"a.m4a": "aac", "a.mp4": "aac", "a.aac": "aac", "a.webm": "libopus", "a.mkv": "flac", "a.mka": "libopus",
           "a.mov": "alac", "a.ts": "aac", "a.avi": "mp3", "a.opus": "libopus"}  # fmt: skip


@pytest.mark.parametrize(("name", "codec"), FORMATS.items())
def test_formats(tmp_path, name, codec):
    audio = np.stack([buzz(2), 0 * buzz(2)], axis=1)
    write_media(tmp_path / name, [(0, audio)], codec=codec, layout="stereo")
    decoded = decode_audio(tmp_path / name)
    assert decoded.sample_rate == 48000 and decoded.warning is None
    assert len(decoded.audio) / 48000 == pytest.approx(2, abs=0.05)
    assert np.median(np.abs(decoded.audio)) == pytest.approx(0.1, abs=0.03)
    assert recorded_seconds(tmp_path / name) == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize("name", ["named.wav", "-odd: name.m4a", "http:__x.mp4", "pipe:0.m4a"])
def test_any_file_name(tmp_path, name):
    write_media(tmp_path / "a.m4a", [(0, buzz(1))])
    (tmp_path / "a.m4a").rename(tmp_path / name)
    assert len(load_audio(tmp_path / name, 16000)[0]) == pytest.approx(16000, abs=800)


@pytest.mark.parametrize("name", ["late.mp4", "late.mkv", "late.ts", "late.m4a"])
def test_late_start_is_silence(tmp_path, name):
    video_seconds = 0 if name.endswith(".m4a") else 8
    write_media(tmp_path / name, [(1.5, buzz(6))], video_seconds=video_seconds)
    decoded = decode_audio(tmp_path / name)
    assert sounding(decoded) == pytest.approx((1.5, 7.5), abs=0.03) and decoded.warning is None


@pytest.mark.parametrize(
    ("name", "codec"), [("a.webm", "libopus"), ("a.m4a", "aac"), ("a.ts", "aac"), ("a.mkv", "flac")]
)
def test_gaps_are_silence(tmp_path, name, codec):
    write_media(tmp_path / name, [(0, buzz(2)), (3, buzz(3))], codec=codec)
    decoded = decode_audio(tmp_path / name)
    assert len(decoded.audio) / 48000 == pytest.approx(6, abs=0.05) and decoded.warning is None
    assert np.abs(decoded.audio[int(2.1 * 48000) : int(2.9 * 48000)]).max() < 1e-3
    assert sounding(decoded)[1] == pytest.approx(6, abs=0.03)


def test_implausible_gaps_are_reported_and_not_filled(tmp_path):
    write_media(tmp_path / "a.mkv", [(0, buzz(2)), (1e6, buzz(2))], codec="flac")
    decoded = decode_audio(tmp_path / "a.mkv")
    assert len(decoded.audio) / 48000 == pytest.approx(4, abs=0.1)
    assert "timestamps jump by 999998 s, which is not filled" in decoded.warning


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts"])
def test_first_track_with_sound_is_used_and_others_are_reported(tmp_path, name):
    tracks = [(0, 0 * buzz(3))], [(0, buzz(3))], [(0, buzz(3))]
    write_media(tmp_path / name, *tracks, titles=("Desktop",))
    decoded = decode_audio(tmp_path / name)
    assert np.abs(decoded.audio).max() > 0.15
    first = "track 1 'Desktop'" if name == "a.mkv" else "track 1"
    expected = f"contains 3 audio tracks: track 2, the first with sound, is used; unused: {first}, track 3"
    assert decoded.warning == expected


def test_damage_to_an_unused_track_does_not_matter(tmp_path):
    path = tmp_path / "a.mkv"
    write_media(path, [(0, 0 * buzz(3))], [(0, buzz(3))])
    with av.open(path) as container:
        silence = [bytes(packet) for packet in container.demux(container.streams.audio[0]) if packet.size][10]
    path.write_bytes(path.read_bytes().replace(silence, b"\xff" * len(silence)))
    decoded = decode_audio(path)
    assert decoded.warning.startswith("contains 2 audio tracks: track 2") and "damaged" not in decoded.warning
    assert len(decoded.audio) / 48000 == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize(("extension", "options"), [
    (".mp3", {}), (".ogg", {}), (".flac", {}), (".opus", {"format": "OGG", "subtype": "OPUS"}),
])  # fmt: skip
@pytest.mark.parametrize("rates", [(48000, 48000), (48000, 24000)])
def test_joined_streams_are_read_completely(tmp_path, extension, options, rates):
    path = tmp_path / f"a{extension}"
    content = b""
    for rate in rates:
        soundfile.write(path, buzz(3, rate), rate, **options)
        content += path.read_bytes()
    path.write_bytes(content)
    decoded = decode_audio(path)
    if rates[0] != rates[1] and extension == ".ogg":
        # FFmpeg does not support joined Vorbis streams of different rates.
        assert decoded.warning.startswith("truncated: only the first 3.00 s are usable")
        return
    assert decoded.sample_rate == 48000 and decoded.warning is None
    assert len(decoded.audio) / 48000 == pytest.approx(6, abs=0.12)


def test_joined_mp3_files_of_different_bit_rates_are_not_truncated(tmp_path):
    content = b""
    for channels in (1, 2):
        soundfile.write(tmp_path / "a.mp3", np.tile(buzz(3)[:, None], channels), 48000)
        content += (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "a.mp3").write_bytes(content)
    assert decode_audio(tmp_path / "a.mp3").warning is None


def test_flac_of_unknown_length_is_complete(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, buzz(3), 48000)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    decoded = decode_audio(path)
    assert len(decoded.audio) == 3 * 48000 and decoded.warning is None
    np.testing.assert_allclose(decoded.audio, buzz(3), atol=1e-4)


def test_truncated_mkv_is_used_and_reported(tmp_path):
    write_media(tmp_path / "a.mkv", [(0, buzz(6))])
    content = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(content[: len(content) // 2])
    decoded = decode_audio(tmp_path / "a.mkv")
    assert 2 < len(decoded.audio) / 48000 < 4 and decoded.warning.startswith("truncated: only the first")


def test_truncated_m4a_raises(tmp_path):
    write_audio(tmp_path / "a.m4a", buzz(3), 48000)
    content = (tmp_path / "a.m4a").read_bytes()
    (tmp_path / "a.m4a").write_bytes(content[: len(content) // 2])
    with pytest.raises(AudioError, match=r"a\.m4a.*cannot be decoded"):
        load_audio(tmp_path / "a.m4a")


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\n{0}\n#EXT-X-ENDLIST\n",
    "live hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXT-X-MEDIA-SEQUENCE:1\n#EXTINF:9,\n{0}\n",
    "ffconcat": "ffconcat version 1.0\nfile '{0}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet '
    'mimeType="audio/mp4"><Representation id="1" bandwidth="1"><BaseURL>{0}</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>",
}  # fmt: skip


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("extension", [".wav", ".m4a"])
def test_playlists_are_not_followed(tmp_path, kind, extension):
    write_audio(tmp_path / "secret.m4a", buzz(1), 48000)
    path = tmp_path / f"song{extension}"
    path.write_text(PLAYLISTS[kind].format(tmp_path / "secret.m4a"))
    with pytest.raises(AudioError, match=r"song.* cannot be decoded"):
        load_audio(path)


def with_decoder(tmp_path, monkeypatch, code):
    """Replace the child process by a script."""
    script = tmp_path / "decoder.py"
    script.write_text(textwrap.dedent(code))
    monkeypatch.setattr(media_process, "__file__", str(script))
    write_audio(tmp_path / "a.m4a", buzz(1), 48000)
    return tmp_path / "a.m4a"


@POSIX
def test_crash_of_the_decoder_at_the_start(tmp_path, monkeypatch):
    path = with_decoder(tmp_path, monkeypatch, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(AudioError, match=r"a\.m4a' cannot be decoded: .*its decoder crashed \(exit status -11\)"):
        load_audio(path)


@pytest.mark.parametrize("rest", ['{"shape": [9, 1]}\\n', '{"sha'])
def test_crash_of_the_decoder_within_the_file(tmp_path, monkeypatch, rest):
    header = '{"sample_rate": 48000, "seconds": 1, "whole_seconds": 1}\\n'
    path = with_decoder(tmp_path, monkeypatch, f"import sys; sys.stdout.write('{header}{rest}'); sys.exit(3)")
    with pytest.raises(AudioError, match=r"a\.m4a' cannot be decoded to its end: its decoder crashed"):
        load_audio(path)


def test_stalled_decoder_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(media_process, "_STALL_SECONDS", 0.5)
    path = with_decoder(tmp_path, monkeypatch, "import time; time.sleep(100)")
    with pytest.raises(AudioError, match=r"a\.m4a' cannot be decoded: .*made no progress for 0\.5 s"):
        load_audio(path)


def test_closing_a_recording_ends_its_process(tmp_path, monkeypatch):
    processes = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *args, **more: processes.append(popen(*args, **more)) or processes[0]
    )
    write_audio(tmp_path / "a.m4a", buzz(9), 48000)
    recorded_seconds(tmp_path / "a.m4a")
    assert processes[0].returncode is not None


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes on Linux only")
def test_memory_is_bounded_for_an_hour(tmp_path):
    """Most of the hour is silence that fills a gap."""
    write_media(tmp_path / "a.mkv", [(0, buzz(60)), (3000, buzz(60))], codec="flac")
    code = """
        import resource, sys
        from rvc_lightning.audio.decode import open_audio
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with open_audio(sys.argv[1]) as stream:
            samples = sum(map(len, stream))
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(samples / 48000, (after - before) / 1024)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "a.mkv")]
    seconds, megabytes = map(float, subprocess.run(command, capture_output=True, check=True, text=True).stdout.split())
    assert seconds == pytest.approx(3060, abs=0.1) and megabytes < 50
