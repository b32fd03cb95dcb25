"""Excerpts for the losses of conversions."""

import numpy as np
import pytest
from tiny import write_tiny_dataset

from rvc_lightning.errors import DatasetError
from rvc_lightning.pretraining.excerpts import write_excerpts
from rvc_lightning.training.conversion_losses import read_excerpts


def test_one_excerpt_of_each_speaker(tmp_path):
    # Slices of 12 to 207 frames, by turns of the speakers 0 and 1; the first ones are too short.
    dataset = write_tiny_dataset(tmp_path, n_slices=40)
    np.save(dataset / "30_f0.npy", np.zeros(162, np.float32))
    assert write_excerpts(dataset, ["0", "1"], tmp_path / "speech.npz") == 2
    excerpts = read_excerpts(tmp_path / "speech.npz")
    assert excerpts.content.shape == (2, 80, 8) and excerpts.f0_hz.shape == (2, 160)
    # Slice 32 has 172 frames and thus 86 of content; slice 30 is unvoiced.
    np.testing.assert_allclose(excerpts.content[0], np.load(dataset / "32_c.npy")[3:83], rtol=0, atol=0.151)
    np.testing.assert_allclose(excerpts.f0_hz[0], np.load(dataset / "32_f0.npy")[6:166], rtol=1e-3)
    assert write_excerpts(dataset, ["1"], tmp_path / "speech.npz") == 1


def test_no_such_speaker(tmp_path):
    with pytest.raises(DatasetError, match="has no voiced slices"):
        write_excerpts(write_tiny_dataset(tmp_path), ["anna"], tmp_path / "speech.npz")
    assert not (tmp_path / "speech.npz").exists()
