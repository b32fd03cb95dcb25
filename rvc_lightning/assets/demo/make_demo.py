"""Make the demo recordings again: `python make_demo.py`, wherever the program flite is installed.

flite (Debian package `flite`) reads the sentences of `sentences.txt` with two of its built-in voices; both
read the first sentences, so that a converted sentence has its true counterpart. Output is 16 kHz mono FLAC
beside this script.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import soundfile

SENTENCES_BY_VOICE = {"slt": 40, "rms": 17}
"""How many of the sentences each flite voice reads."""

_FOLDER = Path(__file__).parent


def main() -> None:
    """Read every sentence with every voice.

    Raises:
        FileNotFoundError: flite is not installed.
        subprocess.CalledProcessError: flite lacks a voice.
    """
    sentences = (_FOLDER / "sentences.txt").read_text(encoding="utf-8").splitlines()
    for voice, count in SENTENCES_BY_VOICE.items():
        (_FOLDER / voice).mkdir(exist_ok=True)
        for number, sentence in enumerate(sentences[:count], start=1):
            read_aloud(sentence, voice, _FOLDER / voice / f"{number:02}.flac")


def read_aloud(sentence: str, voice: str, path: Path) -> None:
    """Let a flite voice read a sentence into a FLAC file."""
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "speech.wav"
        subprocess.run(["flite", "-voice", voice, "-t", sentence, "-o", str(wav)], check=True)
        audio, sample_rate = soundfile.read(wav, dtype="int16")
    soundfile.write(path, audio, sample_rate, subtype="PCM_16")


if __name__ == "__main__":
    main()
