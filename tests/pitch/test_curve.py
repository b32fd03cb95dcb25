"""Reading and writing of pitch curves."""

import tracemalloc

import numpy as np
import pytest

from rvc_lightning.errors import ConfigurationError
from rvc_lightning.pitch.curve import read_curve, write_curve


def curve(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "curve.csv"
    path.write_bytes(text.encode(encoding))
    return read_curve(path)


def test_round_trip_is_exact(tmp_path):
    f0_hz = np.random.default_rng(0).uniform(60, 900, 5000).astype(np.float32)
    f0_hz[100:200] = 0
    write_curve(tmp_path / "sub" / "a.f0.csv", f0_hz)
    read = read_curve(tmp_path / "sub" / "a.f0.csv")
    np.testing.assert_array_equal(read.overlay(np.ones_like(f0_hz)), f0_hz)
    # with frames before the recording
    padded = read.overlay(np.ones(5200, np.float32), first_seconds=-1.0)
    np.testing.assert_array_equal(padded, np.concatenate([np.ones(100), f0_hz, np.ones(100)]))


@pytest.mark.parametrize(
    "text",
    [
        "0,100\n0.1,200\n",
        "seconds,hz\n0,100\n0.1,200",
        "\ufefftime ; F0\r\n# by hand\r\n\r\n 0.0 ; 100.0\r\n0.1;2e2\r\n",
        "  0\t100\n0.1\t 200 \n",
        "0 100\n0.1  200\n",
    ],
)
def test_supported_formats(tmp_path, text):
    read = curve(tmp_path, text)
    assert read.seconds.tolist() == [0, 0.1] and read.hz.tolist() == [100, 200]


def test_pitch_is_interpolated_in_semitones_between_voiced_lines(tmp_path):
    read = curve(tmp_path, "0.02,100\n0.06,200\n0.10,0\n0.14,0\n0.18,400\n")
    measured = np.full(22, 7, np.float32)
    expected = [7, 7, 100, 100 * 2**0.25, 100 * 2**0.5, 100 * 2**0.75, 200, 200, 200, 0, 0, 0, 0, 0, 0, 0, 0, 400, 400]
    np.testing.assert_allclose(read.overlay(measured), [*expected, 7, 7, 7], rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,100\n0.1,200\n0.1,300\n", r"line 3, '0.1,300': times must increase, but the previous line is at 0.1 s"),
        ("0,100\n0.1,nan\n", r"line 2, '0.1,nan': expected finite numbers"),
        ("0,100\n0.1\n", r"line 2, '0.1': expected two numbers"),
        ("0,100\n0.1,200,0.9\n", r"line 2, .*expected two numbers"),
        ("0,100\n0.1,high\n", r"line 2, .*expected two numbers"),
        ("0,100\na,b\n", r"line 2, .*expected two numbers"),
        ("a,b\nc,d\n", r"line 2, 'c,d': expected two numbers"),
        ("0,100\n0.1,69000\n", r"line 2, .*expected a pitch of 20 to 3000 Hz, or 0 for unvoiced"),
        ("0,100\n0.1,-5\n", r"line 2, .*expected a pitch"),
        ("seconds,hz\n0,100\n", r"has 1 lines 'seconds,Hz'; at least two are required"),
        ("", r"has 0 lines"),
    ],
)
def test_errors_include_the_line(tmp_path, text, message):
    with pytest.raises(ConfigurationError, match=rf"f0_file: '.*curve.csv'.* ?{message}"):
        curve(tmp_path, text)


def test_unreadable_files(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read as text"):
        curve(tmp_path, "0,100\n\u00e9", "latin-1")
    with pytest.raises(ConfigurationError, match=r"cannot be read as text: .*directory"):
        read_curve(tmp_path)
    with pytest.raises(ConfigurationError, match=r"cannot be read as text: .*No such file"):
        read_curve(tmp_path / "none.csv")


def test_curve_of_another_recording(tmp_path):
    read = curve(tmp_path, "10,100\n20,200\n")
    read.check_covers(10.5)
    with pytest.raises(
        ConfigurationError, match=r"covers 10 to 20 s, but the recording ends at 5.00 s; choose the file for this"
    ):
        read.check_covers(5.0)


@pytest.mark.slow
def test_memory_is_bounded_for_large_files_and_long_lines(tmp_path):
    text = "".join(f"{frame / 100},220\n" for frame in range(50_000))
    (tmp_path / "large.csv").write_text(text)
    (tmp_path / "line.csv").write_text("0," * 1_000_000)
    tracemalloc.start()
    try:
        assert len(read_curve(tmp_path / "large.csv").hz) == 50_000
        with pytest.raises(ConfigurationError, match=r"line 1, '0,0,.{0,60}': expected two numbers"):
            read_curve(tmp_path / "line.csv")
        assert tracemalloc.get_traced_memory()[1] < 3e6
    finally:
        tracemalloc.stop()
