"""Texts and text files, and their recordings."""

import numpy as np
import pytest

from rvc_lightning.audio.decode import load_audio
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.tts.base import SpeechEngine
from rvc_lightning.tts.text import read_text, record_text


class Counter(SpeechEngine):
    """A stub: a sample for each character."""

    name = "counter"

    @staticmethod
    def check_installed():
        pass

    def speak(self, text):
        return np.full(len(text), 0.5, np.float32), 8000


def test_text_is_taken_as_typed():
    assert read_text("Hello. 你好") == "Hello. 你好"


def test_text_file_is_read(tmp_path):
    (tmp_path / "träum.txt").write_bytes("\ufeffLine one.\r\nÄ line two.\n".encode())
    assert read_text(str(tmp_path / "träum.txt")).splitlines() == ["Line one.", "Ä line two."]


@pytest.mark.parametrize("text", ["", " \n", "...", "?!"])
def test_text_without_words_is_rejected(text):
    with pytest.raises(ConfigurationError, match="it contains no words"):
        read_text(text)


def test_unreadable_text_files_are_one_error(tmp_path):
    with pytest.raises(ConfigurationError, match=r"text=.*gone.txt: the file cannot be read: No such file"):
        read_text(str(tmp_path / "gone.txt"))
    with pytest.raises(ConfigurationError, match=r"text=~no-such-user/a.txt: the file cannot be read: No such file"):
        read_text("~no-such-user/a.txt")
    with pytest.raises(ConfigurationError, match=r"text=a\\x00.txt: embedded null"):
        read_text("a\0.txt")
    (tmp_path / "latin.txt").write_bytes("Straße".encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"text=.*latin.txt: the file is not UTF-8"):
        read_text(str(tmp_path / "latin.txt"))
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(ConfigurationError, match="it contains no words"):
        read_text(str(tmp_path / "empty.txt"))


def test_whole_text_is_one_recording(tmp_path):
    path = record_text(Counter(), "Two\nlines", tmp_path, lines=False)
    assert path.is_file() and len(load_audio(path)[0]) == 9


def test_each_line_is_a_recording_numbered_as_in_the_text(tmp_path):
    folder = record_text(Counter(), "One\n\n  \nFour!\n---\n", tmp_path, lines=True)
    assert {path.name: len(load_audio(path)[0]) for path in folder.iterdir()} == {"0001.wav": 3, "0004.wav": 5}
