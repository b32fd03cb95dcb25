"""Texts to speak, and the recordings that an engine generates from them."""

from __future__ import annotations

from pathlib import Path

from rvc_lightning.audio.encode import write_audio
from rvc_lightning.cli.progress import Progress
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.io.names import home_path
from rvc_lightning.tts.base import SpeechEngine

_EXTENSION = ".txt"


def read_text(text: str) -> str:
    """Return `text`, or the content of the file that it names if it ends in .txt.

    Raises:
        ConfigurationError: The file cannot be read, is not UTF-8, or contains no words.
    """
    if Path(text).suffix.lower() == _EXTENSION:
        path = text
        try:
            text = home_path(path).read_text(encoding="utf-8-sig")
        except OSError as error:
            raise ConfigurationError(f"text={path}: the file cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"text={path}: the file is not UTF-8 ({error.reason}); convert it") from error
        except ValueError as error:
            # A NUL character, which is printed as an escape.
            raise ConfigurationError(f"text={path}: {error}") from error
    if not any(map(str.isalnum, text)):
        raise ConfigurationError(f"text={text.strip()!r}: it contains no words")
    return text


def record_text(engine: SpeechEngine, text: str, folder: Path, *, lines: bool) -> Path:
    """Synthesize a text, or each of its lines, and write the recordings to a folder.

    Args:
        engine: Engine that synthesizes the text.
        text: The text.
        folder: Folder to write to.
        lines: Whether to write one recording per line with words: 0001.wav and so on, numbered as in the text.

    Returns:
        The recording, or with `lines` the folder of recordings.

    Raises:
        AssetError: The engine fails.
        OutOfSpaceError, NotWritableError: The disk cannot store the recordings.
    """
    if not lines:
        return _record(engine, text, folder / "speech.wav")
    folder = folder / "lines"
    numbered = [(n, line) for n, line in enumerate(text.splitlines(), start=1) if any(map(str.isalnum, line))]
    with Progress("speaking", len(numbered), "lines") as progress:
        for number, line in numbered:
            _record(engine, line, folder / f"{number:04}.wav")
            progress.update(1)
    return folder


def _record(engine: SpeechEngine, text: str, path: Path) -> Path:
    audio, sample_rate = engine.speak(text)
    write_audio(path, audio, sample_rate, subtype="FLOAT")
    return path
