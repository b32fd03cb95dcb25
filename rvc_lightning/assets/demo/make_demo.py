"""Make the demo recordings again: `python make_demo.py`, wherever the program flite is installed.

flite (Debian package `flite`) reads the sentences of `sentences.txt` with two of its built-in voices. The first
sentences are read by both, so that a converted sentence has its true counterpart, and none of them is trained on.
Output is 16 kHz mono FLAC beside this script.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import soundfile

N_PARALLEL = 8
"""How many sentences both voices read."""

FOLDERS = {
    "source": ("rms", slice(0, N_PARALLEL)),
    "counterpart": ("slt", slice(0, N_PARALLEL)),
    "target": ("slt", slice(N_PARALLEL, None)),
}
"""The flite voice that fills each folder, and the sentences it reads."""

_FOLDER = Path(__file__).parent


def main() -> None:
    """Read every sentence with the voices that need it.

    Raises:
        FileNotFoundError: flite is not installed.
        subprocess.CalledProcessError: flite lacks a voice.
    """
    sentences = list(enumerate((_FOLDER / "sentences.txt").read_text(encoding="utf-8").splitlines(), start=1))
    for folder, (voice, part) in FOLDERS.items():
        (_FOLDER / folder).mkdir(exist_ok=True)
        for number, sentence in sentences[part]:
            read_aloud(sentence, voice, _FOLDER / folder / f"{number:02}.flac")


def read_aloud(sentence: str, voice: str, path: Path) -> None:
    """Let a flite voice read a sentence into a FLAC file."""
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "speech.wav"
        subprocess.run(["flite", "-voice", voice, "-t", sentence, "-o", str(wav)], check=True)
        audio, sample_rate = soundfile.read(wav, dtype="int16")
    soundfile.write(path, audio, sample_rate, subtype="PCM_16")


if __name__ == "__main__":
    main()
