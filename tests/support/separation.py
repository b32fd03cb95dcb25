"""Tiny separation networks with random weights, in the files of published models."""

import pytest
import torch
import yaml

CHUNK = 16384
AUDIO = {"chunk_size": CHUNK, "num_channels": 2, "sample_rate": 44100}
SIZES = {"dim": 8, "depth": 1, "num_stems": 1, "dim_head": 4, "heads": 2, "stft_hop_length": 512}
SIZES |= {"time_transformer_depth": 1, "freq_transformer_depth": 1, "stft_n_fft": 2048, "stft_win_length": 2048}
KINDS = {
    "mel_band_roformer": SIZES | {"num_bands": 60, "mask_estimator_depth": 2},
    "bs_roformer": SIZES | {"freqs_per_bands": (2,) * 24 + (4,) * 12 + (12,) * 8 + (24,) * 8 + (48,) * 8 + (128, 129)},
}


def write_model(
    folder, name="tiny", kind="mel_band_roformer", target="vocals", instruments=("vocals", "other"), stereo=True
):
    """Write a checkpoint and its YAML file, and return the path of the checkpoint."""
    core = pytest.importorskip("pymss_core")
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "audio": AUDIO,
        "model": KINDS[kind] | {"stereo": stereo},
        "training": {"instruments": list(instruments), "target_instrument": target},
        "inference": {"num_overlap": 2},
    }
    path = folder / f"{name}.ckpt"
    path.with_suffix(".yaml").write_text(yaml.dump(config))
    torch.manual_seed(0)
    network, _ = core.get_model_from_config(kind, path.with_suffix(".yaml"))
    torch.save(network.state_dict(), path)
    return path
