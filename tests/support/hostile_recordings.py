"""A generated folder of unusual, damaged and disguised files among recordings."""

import os
import struct
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000

NAMES = [
    "häßlich größer.wav",
    "日本語の声.wav",
    "русский голос.wav",
    "العربية.wav",
    "עברית.wav",
    "हिन्दी.wav",
    "ไทย.wav",
    "한국어.wav",
    "ελληνικά.wav",
    "😀🎤.wav",
    "e\u0301 combined.wav",
    "\u00e9 composed.wav",
    "right\u202eto left.wav",
    "zero\u200bwidth.wav",
    "a b  c.wav",
    " leading.wav",
    "trailing .wav",
    "tab\there.wav",
    "line\nbreak.wav",
    "quote'single.wav",
    'quote"double.wav',
    "back\\slash.wav",
    "semi;colon&and|pipe.wav",
    "$HOME $(touch ran).wav",
    "`touch ran`.wav",
    "star*?.wav",
    "[brackets].wav",
    "{curly}.wav",
    "per%cent%s%d.wav",
    "#hash.wav",
    "=equals=.wav",
    "-dash.wav",
    "--output=x.wav",
    "~tilde.wav",
    "dots....wav",
    "two.dots.wav",
    "UPPER.WAV",
    "CON.wav",
    "null.wav",
    "nan.wav",
    "0.wav",
    "file:colon.wav",
    "https:--x.wav",
    "x" * 251 + ".wav",
    "音" * 83 + ".wav",
    "\x01control.wav",
    "\x7fdelete.wav",
]


def speech_like(seconds, rate=RATE, hertz=150.0):
    """Return a modulated square wave that is not silent, float32 [N]."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sign(np.sin(2 * np.pi * hertz * time)) * (1 - 0.5 * np.sin(2 * np.pi * 3 * time))).astype("f4")


class HostileFolder:
    """Writes files, and collects their names by the expected treatment.

    Attributes:
        usable: Files that must be used.
        unusable: Files that must be reported.
        optional: Files that must be used or reported.
    """

    def __init__(self, folder):
        self.folder, self.usable, self.unusable, self.optional = folder, set(), set(), set()
        self.number = 0

    def new_sound(self, seconds=0.8):
        """Return sound that is different for each file."""
        self.number += 1
        return speech_like(seconds, hertz=90 + self.number)

    def path(self, name, kind):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind.add(name)
        return path

    def sound(self, name, kind, audio, rate=RATE, **options):
        soundfile.write(os.fsencode(self.path(name, kind)), audio, rate, **options)

    def bytes(self, name, kind, content):
        self.path(name, kind).write_bytes(content)


def formats(hostile):
    """Write every container, sample format and rate that libsndfile supports."""
    for container in ("WAV", "FLAC", "AIFF", "AU", "CAF", "W64", "RF64", "WAVEX", "OGG", "MP3"):
        for subtype in soundfile.available_subtypes(container):
            if soundfile.check_format(container, subtype):
                name = f"formats/{container}_{subtype}.{ {'WAVEX': 'wav'}.get(container, container.lower()) }"
                rate = 8000 if subtype.startswith(("G72", "NMS", "GSM")) else RATE
                try:
                    hostile.sound(name, hostile.usable, hostile.new_sound()[:: RATE // rate], rate, format=container,
                                  subtype=subtype)  # fmt: skip
                except soundfile.LibsndfileError:
                    # Not supported by this build of libsndfile.
                    (hostile.folder / name).unlink(missing_ok=True)
                    hostile.usable.discard(name)
    for rate in (4000, 7999, 8000, 11025, 22050, 44100, 48000, 88200, 96000, 192000, 384000, 768000):
        hostile.sound(f"rates/{rate}.wav", hostile.usable, speech_like(0.8, rate, 100 + rate / 5000), rate)
    for rate in (1, 100, 3999, 768001, 2**31 - 1):
        hostile.sound(f"rates/{rate}.wav", hostile.unusable, hostile.new_sound(), rate)
    for channels in (2, 3, 6, 8, 16, 64, 255):
        audio = hostile.new_sound()[:, None] * np.ones(channels, "f4")
        hostile.sound(f"channels/{channels}.wav", hostile.usable, audio)


def lengths(hostile):
    """Write recordings around the minimum length."""
    for extension in ("wav", "flac", "ogg", "mp3"):
        for samples in (0, 1, 2):
            hostile.sound(f"short/{samples}.{extension}", hostile.unusable, hostile.new_sound()[:samples])
    for samples in (10, 100, RATE // 2 - 1):
        hostile.sound(f"short/{samples}.wav", hostile.unusable, hostile.new_sound()[:samples])
    for samples in (RATE // 2, RATE // 2 + 1):
        hostile.sound(f"short/{samples}.wav", hostile.usable, hostile.new_sound()[:samples])
    for seconds in (2.99, 3.0, 3.01, 6.7):
        hostile.sound(f"long/{seconds}.wav", hostile.usable, hostile.new_sound(seconds))


def contents(hostile):
    """Write silence, values that are not finite, and extreme levels."""
    audio = hostile.new_sound(1.0)
    silent, denormal = np.zeros(RATE, "f4"), np.full(RATE, 1e-42, "f4")
    for name, samples in {"zeros": silent, "denormal": denormal, "faint": audio * 1e-5}.items():
        hostile.sound(f"content/{name}.wav", hostile.unusable, samples, subtype="FLOAT")
    for name, value in {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}.items():
        broken = audio.copy()
        broken[5000] = value
        hostile.sound(f"content/{name}.wav", hostile.unusable, broken, subtype="FLOAT")
    for name, samples in {"loud": audio * 1e6, "huge": audio.astype("f8") * 1e300, "clipped": np.sign(audio)}.items():
        hostile.sound(f"content/{name}.wav", hostile.optional, samples, subtype="DOUBLE")
    hostile.sound("content/dc.wav", hostile.optional, np.full(RATE, 0.5, "f4"))
    hostile.sound("content/opposite.wav", hostile.usable, np.stack([audio, -audio], 1))
    impulse = np.zeros(RATE, "f4")
    impulse[RATE // 2] = 1
    hostile.sound("content/impulse.wav", hostile.optional, impulse)


def riff(chunks, size=None):
    body = b"WAVE" + b"".join(name + struct.pack("<I", claimed) + data for name, claimed, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


def fmt(channels=1, rate=RATE, bits=16, tag=1, align=None, byte_rate=None):
    align = channels * bits // 8 if align is None else align
    values = tag, channels, rate, rate * align if byte_rate is None else byte_rate, align, bits
    packed = struct.pack("<HHIIHH", *(value & mask for value, mask in zip(values, (0xFFFF, 0xFFFF, 2**32 - 1,
                         2**32 - 1, 0xFFFF, 0xFFFF), strict=True)))  # fmt: skip
    return b"fmt ", 16, packed


def headers(hostile):
    """Write wav files with contradictory headers."""
    pcm = (hostile.new_sound(1.0) * 32767).astype("<i2").tobytes()
    data = (b"data", len(pcm), pcm)
    contents = {
        "data_4_gb": riff([fmt(), (b"data", 2**32 - 1, pcm)]),
        "data_2_gb": riff([fmt(), (b"data", 2**31 - 2, pcm)]),
        "data_too_long": riff([fmt(), (b"data", len(pcm) * 3, pcm)]),
        "data_too_short": riff([fmt(), (b"data", 100, pcm)]),
        "data_zero": riff([fmt(), (b"data", 0, pcm)]),
        "riff_zero": riff([fmt(), data], 0),
        "riff_ones": riff([fmt(), data], 2**32 - 1),
        "riff_small": riff([fmt(), data], 4),
        "no_fmt": riff([data]),
        "fmt_after_data": riff([data, fmt()]),
        "no_data": riff([fmt()]),
        "two_fmt": riff([fmt(), fmt(2, 44100), data]),
        "two_data": riff([fmt(), data, data]),
        "channels_0": riff([fmt(channels=0, align=2), data]),
        "channels_65535": riff([fmt(channels=65535, align=65535), data]),
        "rate_0": riff([fmt(rate=0), data]),
        "rate_max": riff([fmt(rate=2**32 - 1), data]),
        "bits_0": riff([fmt(bits=0, align=2), data]),
        "bits_1": riff([fmt(bits=1, align=1), data]),
        "bits_13": riff([fmt(bits=13, align=2), data]),
        "bits_65535": riff([fmt(bits=65535), data]),
        "align_0": riff([fmt(align=0), data]),
        "align_odd": riff([fmt(align=3), data]),
        "byte_rate_0": riff([fmt(byte_rate=0), data]),
        "tag_unknown": riff([fmt(tag=0xFFFE), data]),
        "tag_mp3": riff([fmt(tag=0x55), data]),
        "tag_adpcm": riff([fmt(tag=2), data]),
        "odd_bytes": riff([fmt(), (b"data", len(pcm) - 1, pcm[:-1])]),
        "junk_first": riff([(b"JUNK", 2**31, b"x" * 10), fmt(), data]),
        "list_bomb": riff([fmt(), *[(b"LIST", 4, b"INFO")] * 2000, data]),
        "trailing": riff([fmt(), data]) + b"trailing" * 1000,
        "only_magic": b"RIFF",
        "magic_and_size": b"RIFF\xff\xff\xff\xffWAVE",
        "big_endian": b"RIFX" + riff([fmt(), data])[4:],
    }
    for name, content in contents.items():
        hostile.bytes(f"headers/{name}.wav", hostile.optional, content)


def disguises(hostile):
    """Write files whose content does not match the extension, and damaged files."""
    audio = hostile.new_sound()
    for extension in ("wav", "flac", "ogg", "mp3", "aiff", "m4a", "webm", "opus", "caf", "au", "w64", "aac", "mp4"):
        hostile.bytes(f"disguised/empty.{extension}", hostile.unusable, b"")
    texts = {
        "text.wav": b"plain text\n" * 100,
        "html.mp3": b"<!DOCTYPE html><html><body>404</body></html>",
        "zip.flac": b"PK\x03\x04" + bytes(200),
        "pickle.wav": b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x09touch ran\x85R.",
        "playlist.m4a": b"#EXTM3U\nhttp://127.0.0.1:9/a.mp3\n/etc/passwd\n",
        "concat.webm": b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        "svg.mp4": b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>",
        "zeros.wav": bytes(5000),
        "ones.mp3": b"\xff" * 5000,
        "noise.ogg": np.random.default_rng(1).bytes(5000),
        "noise.flac": b"fLaC" + np.random.default_rng(2).bytes(5000),
        "noise.mp3": b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + np.random.default_rng(3).bytes(5000),
    }
    for name, content in texts.items():
        hostile.bytes(f"disguised/{name}", hostile.optional if name == "noise.mp3" else hostile.unusable, content)
    for name, form in {"flac.wav": "FLAC", "wav.mp3": "WAV", "ogg.flac": "OGG", "mp3.ogg": "MP3"}.items():
        hostile.sound(f"disguised/{name}", hostile.usable, audio + len(hostile.usable) * 1e-4, format=form)
    for extension in ("wav", "flac", "ogg", "mp3", "aiff"):
        hostile.sound(f"damaged/whole.{extension}", hostile.usable, hostile.new_sound(2.0))
        content = bytearray((hostile.folder / f"damaged/whole.{extension}").read_bytes())
        hostile.bytes(f"damaged/half.{extension}", hostile.optional, content[: len(content) // 2])
        content[len(content) // 3 : len(content) // 3 + 50] = b"\xa5" * 50
        hostile.bytes(f"damaged/hole.{extension}", hostile.optional, content)


def names(hostile):
    """Write names in many scripts, and names that are special to a shell or a file system."""
    for name in NAMES:
        hostile.sound(f"names/{name}", hostile.usable, hostile.new_sound())
    hostile.sound(os.fsdecode(b"names/latin \xe9.wav"), hostile.usable, hostile.new_sound())
    hostile.sound("deep/" + "d/" * 60 + "a.wav", hostile.usable, hostile.new_sound())


def others(hostile):
    """Write other files, hidden files, folders named like files, links and pipes."""
    plain = ("notes.txt", "cover.jpg", "voice.pth", "none", "a.wav.part", "Thumbs.db", "manifest.jsonl", "a.WAV~")
    for name in (*plain, ".DS_Store", ".hidden.wav", "._resource.wav"):
        hostile.bytes(f"others/{name}", hostile.unusable, b"no sound")
    hostile.sound("others/folder.wav/inside.wav", hostile.usable, hostile.new_sound())
    (hostile.folder / "others" / "empty.flac").mkdir()
    links = hostile.folder / "links"
    links.mkdir()
    hostile.sound("links/real.wav", hostile.usable, hostile.new_sound())
    targets = {"circle": ".", "up": "..", "self.wav": "self.wav", "ping.wav": "pong.wav", "pong.wav": "ping.wav",
               "broken.wav": "nowhere.wav", "null.wav": "/dev/null", "zero.wav": "/dev/zero"}  # fmt: skip
    for name, target in targets.items():
        (links / name).symlink_to(target)
        hostile.unusable.add(f"links/{name}")
    (links / "twice.wav").symlink_to("real.wav")
    hostile.usable.add("links/twice.wav")
    os.mkfifo(links / "pipe.wav")
    hostile.unusable.add("links/pipe.wav")


def write_hostile(folder: Path) -> HostileFolder:
    """Write all files below `folder`."""
    hostile = HostileFolder(folder)
    for write in (formats, lengths, contents, headers, disguises, names, others):
        write(hostile)
    return hostile
