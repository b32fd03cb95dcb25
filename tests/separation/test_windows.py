"""Windows of fixed length: nothing is lost, moved or changed by a process that changes nothing."""

import numpy as np
import pytest

from rvc_lightning.audio.stages import run
from rvc_lightning.separation.windows import OverlappingWindows


def apply(audio, blocks, process=lambda window: window, window=64, step=32):
    parts = np.split(audio, blocks)
    return np.concatenate(list(run(OverlappingWindows(process, audio.shape[1], window, step), parts)))


@pytest.mark.parametrize("samples", [0, 1, 31, 32, 64, 65, 1000])
@pytest.mark.parametrize("step", [64, 32, 16, 30])
def test_identity_returns_the_audio(samples, step):
    audio = np.random.default_rng(0).normal(size=(samples, 2)).astype(np.float32)
    np.testing.assert_allclose(apply(audio, [], step=step), audio, atol=1e-6)


def test_result_does_not_depend_on_the_blocks():
    audio = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)

    def process(window):
        return np.cumsum(window, axis=0)

    whole = apply(audio, [], process)
    np.testing.assert_array_equal(apply(audio, [1, 2, 90, 90, 400], process), whole)
    assert not np.allclose(whole, np.cumsum(audio, axis=0))


def test_process_gets_windows_of_one_length():
    lengths = set()

    def process(window):
        lengths.add(window.shape)
        return window

    apply(np.ones((100, 2), np.float32), [50], process)
    assert lengths == {(64, 2)}
