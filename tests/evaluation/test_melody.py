"""Pitch tracks of known difference."""

import numpy as np
import pytest

from rvc_lightning.evaluation.melody import Melody, correlation, median_hz, melody, semitones_between

WANTED = np.where(np.arange(100) < 80, 200 + np.arange(100.0), 0)


def test_the_same_track_is_no_error():
    assert melody(WANTED, WANTED) == Melody(pytest.approx(1), 0.0, 0.0, 0.0)


@pytest.mark.parametrize("cents", [-100, 20, 100])
def test_a_shift_is_an_error_of_as_many_cents(cents):
    found = melody(WANTED * 2 ** (cents / 1200), WANTED)
    assert found.error_cents == pytest.approx(abs(cents))
    assert found.gross_error == (abs(cents) >= 50)
    assert found.correlation == pytest.approx(1)
    assert found.voicing_error == 0


def test_an_octave_slip_is_gross_and_moves_no_median():
    heard = WANTED.copy()
    heard[:8] *= 2
    assert melody(heard, WANTED).gross_error == 0.1
    assert melody(heard, WANTED).error_cents == 0


def test_voicing_counts_both_ways_over_all_frames():
    heard = WANTED.copy()
    heard[:10], heard[90:] = 0, 100
    found = melody(heard, WANTED)
    assert found.voicing_error == 0.2
    assert found.error_cents == 0


def test_of_too_little_voice_nothing_is_said_of_the_pitch():
    short = np.where(np.arange(100) < 9, 200.0, 0)
    assert melody(short, WANTED) == Melody(None, None, None, pytest.approx(0.71))


def test_the_common_beginning_counts():
    assert melody(WANTED[:50], WANTED).voicing_error == 0


def test_a_steady_pitch_correlates_with_nothing():
    assert correlation(np.full(100, 200.0), WANTED) is None


def test_transposition_is_in_whole_semitones():
    assert semitones_between(np.array([0, 100.0, 100.0]), 205.0) == 12
    assert semitones_between(np.array([0, 400.0]), 200.0) == -12
    assert semitones_between(np.zeros(5), 200.0) == semitones_between(WANTED, None) == 0
    assert median_hz([np.zeros(3), np.array([100.0, 0, 300.0])]) == 200
    assert median_hz([]) is None
