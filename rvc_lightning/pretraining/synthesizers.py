"""Speech synthesizers that report the times of phones: flite, Festival and eSpeak NG, as packaged by Debian.

Each is a program or a library of the system, found on first use.
"""

from __future__ import annotations

import ctypes
import functools
import random
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from rvc_lightning.audio.decode import resample
from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.pretraining.phones import Segment, from_arpabet, from_espeak

FLITE_VOICES = ("kal16", "awb", "rms", "slt")
FESTIVAL_VOICES = ("ked_diphone", "cmu_us_slt_arctic_hts")
ESPEAK_ACCENTS = (
    "en-us", "en-us", "en-us-nyc", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029"
)  # fmt: skip
ESPEAK_VARIANTS = (
    "f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "klatt", "klatt2", "klatt3",
    "klatt4", "Alex", "Alicia", "Andrea", "Andy", "Annie", "Gene", "Gene2", "Henrique", "Hugo", "Jacky", "Lee",
    "Marco", "Mario", "Michael", "Mike", "Mr", "adam", "anika", "antonio", "aunty", "belinda", "benjamin", "boris",
    "caleb", "david", "ed", "edward", "gustave", "iven", "iven3", "john", "linda", "max", "michel", "miguel",
    "paul", "pedro", "quincy", "rob", "robert", "sandro", "steph", "travis", "victor", "whisper", "whisperf", "zac"
)  # fmt: skip

_TIMEOUT_S = 60

_FESTIVAL_SCRIPT = """
(voice_{voice})
(Parameter.set 'Duration_Stretch {stretch})
(set! utterance (SynthText "{text}"))
(utt.save.wave utterance "{wav}" 'riff)
(mapcar (lambda (segment) (format t "%s:%f " (item.name segment) (item.feat segment 'end)))
        (utt.relation.items utterance 'Segment))
"""


@dataclass
class AlignedSpeech:
    """A spoken sentence with its phones.

    Attributes:
        speaker: Name of the speaker.
        audio: Float32 [T] at 16 kHz.
        segments: Phones with their ends in seconds.
    """

    speaker: str
    audio: np.ndarray
    segments: list[Segment]


Synthesizer = Callable[[str, random.Random], AlignedSpeech]
"""Function from a sentence and a source of random choices to speech.

Raises ConfigurationError if it is not installed, KeyError for an unknown phone, and TimeoutExpired.
"""


def all_synthesizers() -> list[Synthesizer]:
    """Return all synthesizers; eSpeak NG has many variants and is listed three times."""
    flite_voices = [functools.partial(synthesize_flite, voice) for voice in FLITE_VOICES]
    festival_voices = [functools.partial(synthesize_festival, voice) for voice in FESTIVAL_VOICES]
    return [*flite_voices, *festival_voices, *(3 * [synthesize_espeak])]


def synthesize_flite(voice: str, text: str, rng: random.Random) -> AlignedSpeech:
    """Synthesize with a voice of flite, at a random pace of 0.75 to 1.25."""
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "speech.wav"
        stretch = f"duration_stretch={rng.uniform(0.75, 1.25):.3f}"
        output = _run("flite", "-voice", voice, "-psdur", "--setf", stretch, "-t", text, "-o", str(wav))
        return AlignedSpeech(f"flite-{voice}", _read(wav), from_arpabet(_parse_segments(output)))


def synthesize_festival(voice: str, text: str, rng: random.Random) -> AlignedSpeech:
    """Synthesize with a voice of Festival, at a random pace of 0.75 to 1.25."""
    with tempfile.TemporaryDirectory() as folder:
        wav, script = Path(folder) / "speech.wav", Path(folder) / "speak.scm"
        quoted = text.replace("\\", "").replace('"', "")
        stretch = f"{rng.uniform(0.75, 1.25):.3f}"
        script.write_text(_FESTIVAL_SCRIPT.format(voice=voice, stretch=stretch, text=quoted, wav=wav))
        output = _run("festival", "-b", str(script))
        return AlignedSpeech(f"festival-{voice}", _read(wav), from_arpabet(_parse_segments(output)))


def synthesize_espeak(text: str, rng: random.Random) -> AlignedSpeech:
    """Synthesize with a random accent and variant of eSpeak NG, at 110 to 210 words a minute."""
    variant = rng.choice(ESPEAK_VARIANTS)
    library = _espeak()
    audio, segments = library.synthesize(
        text, f"{rng.choice(ESPEAK_ACCENTS)}+{variant}", rng.randrange(110, 211), rng.randrange(20, 85)
    )
    return AlignedSpeech(f"espeak-{variant}", resample(audio, library.sample_rate, SAMPLE_RATE), from_espeak(segments))


def _run(*command: str) -> str:
    """Run a program and return its output.

    Raises:
        ConfigurationError: The program is not installed, or fails.
        TimeoutExpired: The program does not exit in time.
    """
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=_TIMEOUT_S).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigurationError(f"synthesis requires the program {command[0]}, which fails: {error}") from error


def _parse_segments(output: str) -> list[Segment]:
    """Parse `pau:0.184 dh:0.251 ...`."""
    pairs = (item.rsplit(":", 1) for item in output.split())
    return [(name, float(end_s)) for name, end_s in pairs]


def _read(wav: Path) -> np.ndarray:
    audio, sample_rate = soundfile.read(wav, dtype="float32")
    return resample(audio, sample_rate, SAMPLE_RATE)


class _EventName(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    """`espeak_EVENT` of speak_lib.h."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("type", "identifier", "text_position", "length", "milliseconds", "sample")),
        ("user_data", ctypes.c_void_p),
        ("id", _EventName),
    ]


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
_SYNCHRONOUS, _PHONEME_EVENTS, _UTF8 = 2, 1, 1
_LIST_END, _PHONEME = 0, 7
_RATE, _PITCH = 1, 3


class _Espeak:
    """The library of eSpeak NG, which reports the first sample of each phone; the program does not."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libespeak-ng.so.1")
        except OSError as error:
            raise ConfigurationError(f"synthesis requires the library eSpeak NG: {error}") from error
        self.sample_rate: int = self._library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS)
        self._audio: list[np.ndarray] = []
        self._starts: list[tuple[str, int]] = []
        # The library keeps no reference to the callback.
        self._callback = _CALLBACK(self._on_events)
        self._library.espeak_SetSynthCallback(self._callback)

    def synthesize(self, text: str, voice: str, words_per_minute: int, pitch: int) -> tuple[np.ndarray, list[Segment]]:
        """Return audio [T] at `sample_rate`, and mnemonics with their ends in seconds.

        Raises:
            ConfigurationError: The voice does not exist.
        """
        self._audio.clear()
        self._starts.clear()
        if self._library.espeak_SetVoiceByName(voice.encode()):
            raise ConfigurationError(f"eSpeak NG has no voice '{voice}'")
        self._library.espeak_SetParameter(_RATE, words_per_minute, 0)
        self._library.espeak_SetParameter(_PITCH, pitch, 0)
        encoded = text.encode() + b"\0"
        self._library.espeak_Synth(encoded, len(encoded), 0, 1, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        audio = np.concatenate(self._audio).astype(np.float32) / 2**15
        ends = [*(start for _, start in self._starts[1:]), len(audio)]
        names = [name for name, _ in self._starts]
        return audio, [(name, end / self.sample_rate) for name, end in zip(names, ends, strict=True)]

    def _on_events(self, wav: ctypes._Pointer, samples: int, events: ctypes._Pointer) -> int:
        if wav and samples > 0:
            self._audio.append(np.ctypeslib.as_array(wav, (samples,)).copy())
        position = 0
        while events[position].type != _LIST_END:
            if events[position].type == _PHONEME:
                self._starts.append((bytes(events[position].id.string).decode(), events[position].sample))
            position += 1
        return 0


@functools.cache
def _espeak() -> _Espeak:
    return _Espeak()
