"""Files in the formats of other RVC tools: pretrained pairs and experiment folders of unfinished trainings."""

import json

import numpy as np
import soundfile
import torch

from rvc_lightning.models import Discriminator, Synthesizer
from rvc_lightning.voice import rvc_format


def file_weights(network):
    """Return the tensors of a network under the names of the file format."""
    if isinstance(network, Discriminator):
        return rvc_format.weights_for_file(network.state_dict())
    return rvc_format.weights_for_file(network.state_dict(), network.config)


def write_pretrained(folder, synthesizer, discriminator, **entries):
    """Write `G.pth` and `D.pth` as published: half precision, without optimizer."""
    torch.manual_seed(3)
    published = {"G": Synthesizer(synthesizer), "D": Discriminator(discriminator)}
    for name, network in published.items():
        weights = {key: tensor.half() for key, tensor in file_weights(network).items()}
        torch.save({"model": weights} | entries, folder / f"{name}.pth")
    return folder / "G.pth", folder / "D.pth"


def write_training_pair(folder, synthesizer, discriminator, *, epoch, name="2333333", steps=3):
    """Write `G_NAME.pth` and `D_NAME.pth` with optimizers after `steps` steps; return networks and optimizers."""
    torch.manual_seed(epoch)
    networks = {}
    for letter, network in {"G": Synthesizer(synthesizer), "D": Discriminator(discriminator)}.items():
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, betas=(0.8, 0.99), eps=1e-9)
        torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.999875)
        for _ in range(steps):
            for parameter in network.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()
        content = {
            "model": file_weights(network),
            "iteration": epoch,
            "optimizer": optimizer.state_dict(),
            "learning_rate": 1e-4,
        }
        torch.save(content, folder / f"{letter}_{name}.pth")
        networks[letter] = network, optimizer
    return networks


def write_experiment(folder, config, *, pitch=True, slices=6, absolute=False):
    """Write slices, features, pitch, file list and `config.json` of an experiment, and two silent slices beside it."""
    noise = np.random.default_rng(0)
    rate, dim = config.sample_rate, config.content_dim
    mute = folder.parent / "mute"
    names = [f"0_{number // 2}_{number % 2}" for number in range(slices)]
    lines = []
    for base, name in [*((folder, name) for name in names), (mute, f"mute{rate}")]:
        for part in ("sliced_audios", "f0", "f0_voiced", "extracted"):
            (base / part).mkdir(parents=True, exist_ok=True)
        files = (
            base / "sliced_audios" / f"{name}.wav",
            base / "extracted" / f"{name}.npy",
            base / "f0" / f"{name}.wav.npy",
            base / "f0_voiced" / f"{name}.wav.npy",
        )
        silent = base == mute
        soundfile.write(files[0], noise.normal(size=rate // 2) * (0 if silent else 0.1), rate, subtype="FLOAT")
        np.save(files[1], noise.normal(size=(24, dim)).astype(np.float32))
        np.save(files[2], np.ones(51, dtype=np.int64))
        np.save(files[3], np.zeros(51) if silent else noise.uniform(90, 200, 51))
        listed = [str(path) if absolute else f"logs/{path.relative_to(folder.parent)}" for path in files]
        line = "|".join([*(listed if pitch else listed[:2]), "0"])
        lines += [line, line] if silent else [line]
    (folder / "filelist.txt").write_text("\n".join(lines) + "\n")
    (folder / "model_info.json").write_text(json.dumps({"embedder_model": "contentvec", "speakers_id": 1}))
    model = dict(
        zip(rvc_format._EXPERIMENT_FIELDS, rvc_format.config_to_list(config)[2:-1], strict=True),
        use_spectral_norm=False,
    )
    blocks = {
        "train": {"learning_rate": 1e-4, "lr_decay": 0.999875, "segment_size": 12800},
        "data": {"sample_rate": rate, "filter_length": config.n_fft, "hop_length": config.hop_samples},
        "model": model,
    }
    (folder / "config.json").write_text(json.dumps(blocks))
