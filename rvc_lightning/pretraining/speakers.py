"""Speech synthesizers that say which phone they speak when: flite, Festival and eSpeak NG, as Debian has them.

Each is a program or a library of the system, found when it is first asked to speak.
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
from rvc_lightning.pretraining.phones import Segment, folded, from_espeak

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

_PATIENCE_S = 60

_FESTIVAL_SCRIPT = """
(voice_{voice})
(Parameter.set 'Duration_Stretch {stretch})
(set! utterance (SynthText "{text}"))
(utt.save.wave utterance "{wav}" 'riff)
(mapcar (lambda (segment) (format t "%s:%f " (item.name segment) (item.feat segment 'end)))
        (utt.relation.items utterance 'Segment))
"""


@dataclass
class Spoken:
    """A sentence that was read aloud.

    Attributes:
        speaker: Who reads.
        audio: Float32 [T] at 16 kHz.
        segments: Phones, and the second each ends at.
    """

    speaker: str
    audio: np.ndarray
    segments: list[Segment]


Speaker = Callable[[str, random.Random], Spoken]
"""From a sentence, and what decides pace and the like, to speech. Raises ConfigurationError where it is not installed,
KeyError for a phone that is not known and TimeoutError where it does not come to an end."""


def speakers() -> list[Speaker]:
    """All there are, eSpeak NG with its many variants as three of them."""
    flite_voices = [functools.partial(flite, voice) for voice in FLITE_VOICES]
    festival_voices = [functools.partial(festival, voice) for voice in FESTIVAL_VOICES]
    return [*flite_voices, *festival_voices, espeak, espeak, espeak]


def flite(voice: str, text: str, draw: random.Random) -> Spoken:
    """Reads with one of flite's own voices, at a pace of 0.75 to 1.25."""
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "speech.wav"
        stretch = f"duration_stretch={draw.uniform(0.75, 1.25):.3f}"
        printed = _run("flite", "-voice", voice, "-psdur", "--setf", stretch, "-t", text, "-o", str(wav))
        return Spoken(f"flite-{voice}", _read(wav), folded(_pairs(printed)))


def festival(voice: str, text: str, draw: random.Random) -> Spoken:
    """Reads with a voice of Festival's, at a pace of 0.75 to 1.25."""
    with tempfile.TemporaryDirectory() as folder:
        wav, script = Path(folder) / "speech.wav", Path(folder) / "speak.scm"
        quoted = text.replace("\\", "").replace('"', "")
        stretch = f"{draw.uniform(0.75, 1.25):.3f}"
        script.write_text(_FESTIVAL_SCRIPT.format(voice=voice, stretch=stretch, text=quoted, wav=wav))
        printed = _run("festival", "-b", str(script))
        return Spoken(f"festival-{voice}", _read(wav), folded(_pairs(printed)))


def espeak(text: str, draw: random.Random) -> Spoken:
    """Reads with any accent and variant of eSpeak NG's, at 110 to 210 words a minute."""
    variant = draw.choice(ESPEAK_VARIANTS)
    library = _espeak()
    audio, segments = library.say(
        text, f"{draw.choice(ESPEAK_ACCENTS)}+{variant}", draw.randrange(110, 211), draw.randrange(20, 85)
    )
    return Spoken(f"espeak-{variant}", resample(audio, library.sample_rate, SAMPLE_RATE), from_espeak(segments))


def _run(*command: str) -> str:
    """What a program prints.

    Raises:
        ConfigurationError: There is no such program, or it fails.
        TimeoutError: It does not end.
    """
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=_PATIENCE_S).stdout
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"{command[0]} did not end within {_PATIENCE_S} s") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigurationError(f"{command[0]} is needed to make speech, and does not run here: {error}") from error


def _pairs(printed: str) -> list[Segment]:
    """`pau:0.184 dh:0.251 ...` as names and seconds."""
    pairs = (item.rsplit(":", 1) for item in printed.split())
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
    """The library of eSpeak NG, which tells the sample each phone begins at; the program does not."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libespeak-ng.so.1")
        except OSError as error:
            raise ConfigurationError(f"eSpeak NG is needed to make speech: {error}") from error
        self.sample_rate: int = self._library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS)
        self._audio: list[np.ndarray] = []
        self._begins: list[tuple[str, int]] = []
        # Kept, since the library holds no reference.
        self._callback = _CALLBACK(self._take)
        self._library.espeak_SetSynthCallback(self._callback)

    def say(self, text: str, voice: str, words_per_minute: int, pitch: int) -> tuple[np.ndarray, list[Segment]]:
        """Audio [T] at `sample_rate`, and mnemonics with the second each ends at.

        Raises:
            ConfigurationError: There is no such voice.
        """
        self._audio.clear()
        self._begins.clear()
        if self._library.espeak_SetVoiceByName(voice.encode()):
            raise ConfigurationError(f"eSpeak NG has no voice '{voice}'")
        self._library.espeak_SetParameter(_RATE, words_per_minute, 0)
        self._library.espeak_SetParameter(_PITCH, pitch, 0)
        encoded = text.encode() + b"\0"
        self._library.espeak_Synth(encoded, len(encoded), 0, 1, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        audio = np.concatenate(self._audio).astype(np.float32) / 2**15
        ends = [*(begin for _, begin in self._begins[1:]), len(audio)]
        names = [name for name, _ in self._begins]
        return audio, [(name, end / self.sample_rate) for name, end in zip(names, ends, strict=True)]

    def _take(self, wav: ctypes._Pointer, samples: int, events: ctypes._Pointer) -> int:
        if wav and samples > 0:
            self._audio.append(np.ctypeslib.as_array(wav, (samples,)).copy())
        position = 0
        while events[position].type != _LIST_END:
            if events[position].type == _PHONEME:
                self._begins.append((bytes(events[position].id.string).decode(), events[position].sample))
            position += 1
        return 0


@functools.cache
def _espeak() -> _Espeak:
    return _Espeak()
