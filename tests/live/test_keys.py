"""Keys of the terminal, as the systems report them."""

import io
import os
import sys
from types import SimpleNamespace

import pytest

from rvc_lightning.live import display, panel


@pytest.fixture
def type_keys(monkeypatch):
    """Return a function that types into standard input."""
    source, target = os.pipe()
    with open(source, "rb", buffering=0) as terminal, open(target, "wb", buffering=0) as keyboard:
        monkeypatch.setattr(sys, "stdin", terminal)
        yield lambda text: keyboard.write(text.encode())


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot wait for a pipe")
def test_keys_of_several_bytes_are_one_key(type_keys):
    for key in ("+", "é", "日", "🎤", "\x1b", "\x1b[A", "\x1bOP"):
        type_keys(key)
        assert display._posix_key(1.0) == key
    type_keys("+-")
    assert [display._posix_key(1.0), display._posix_key(1.0), display._posix_key(0.0)] == ["+", "-", ""]


def test_keys_of_two_characters_are_one_key_on_windows(monkeypatch):
    waiting = list("+\xe0I\0;")
    console = SimpleNamespace(kbhit=lambda: bool(waiting), getwch=lambda: waiting.pop(0))
    monkeypatch.setitem(sys.modules, "msvcrt", console)
    assert [display._windows_key(0.1) for _ in range(3)] == ["+", "\0I", "\0;"]
    waiting[:] = "\xe0"
    assert display._windows_key(0.1) == "à"


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ([*"mute=X", "\x7f", "\x1b[A", *"true", "\n"], "mute=true"),
        ([*"mute=true", "\x1b"], ""),
        ([*"mute=true", ""], ""),
    ],
)
def test_line_is_typed_up_to_enter(monkeypatch, keys, line):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    typed = iter(keys)
    assert panel._typed(lambda seconds: next(typed)) == line


def test_steps_stay_in_the_range_of_the_option():
    steps = display.Steps({"transpose_semitones": 47, "index_rate": 0.03, "gate_db": None, "mute": False})
    assert [steps.change("+") for _ in range(2)] == [{"transpose_semitones": 48}] * 2
    assert steps.change("[") == {"index_rate": 0}
    assert [steps.change("g"), steps.change("G")] == [{"gate_db": -72}, {"gate_db": -70}]
    assert [steps.change("m"), steps.change("m"), steps.change("\x1b[A")] == [{"mute": True}, {"mute": False}, {}]
