"""Stubs of content encoder and pitch extractor as in the golden data, tiny networks, and a trainer on the CPU."""

import golden_rule
import numpy as np
import torch
from lightning import Trainer
from transformers import HubertConfig, HubertModel

from rvc_lightning.audio.frames import content_frames
from rvc_lightning.content.base import ContentEncoder
from rvc_lightning.models import Synthesizer, SynthesizerConfig
from rvc_lightning.pitch.base import PitchExtractor
from rvc_lightning.pitch.crepe import CrepeNetwork
from rvc_lightning.pitch.fcpe import FcpeNetwork
from rvc_lightning.pitch.rmvpe import RmvpeNetwork
from rvc_lightning.voice.voice import Voice


class StubContent(ContentEncoder):
    name = "stub"

    def __init__(self, dim=768):
        super().__init__()
        self.dim = dim

    def forward(self, wav16k, lengths):
        content = torch.zeros(len(wav16k), content_frames(wav16k.shape[1]), self.dim)
        for item, wave, samples in zip(content, wav16k, lengths.tolist(), strict=True):
            embedded = golden_rule.stub_embed(wave[:samples].numpy(), self.dim)
            item[: len(embedded)] = torch.from_numpy(embedded)
        return content


class StubPitch(PitchExtractor):
    name = "stub"

    def __call__(self, wav16k):
        return golden_rule.stub_f0(len(wav16k) // 160 + 1).astype(np.float32)


def cpu_trainer(**changes):
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(**({"accelerator": "cpu", "devices": 1} | quiet | changes))


def quick_config(**changes):
    """Return the configuration of a tiny synthesizer: 8 kHz, two stages, one residual block."""
    sizes = {
        "sample_rate": 8000,
        "n_fft": 512,
        "upsample_rates": (10, 8),
        "upsample_kernel_sizes": (20, 16),
        "latent_channels": 8,
        "hidden_channels": 16,
        "filter_channels": 16,
        "n_layers": 1,
        "resblock_kernel_sizes": (3,),
        "resblock_dilations": ((1,),),
        "initial_channels": 16,
        "speaker_count": 2,
        "speaker_channels": 8,
    }
    return SynthesizerConfig(**sizes | changes)


def make_voice(config, **information):
    """Return a voice with reproducible random weights and the spectral content encoder."""
    torch.manual_seed(0)
    state = Synthesizer(config).state_dict()
    return Voice.from_synthesizer(config, state, {"embedder_model": "spectral"} | information)


def make_hubert(folder, layers=10, projection=True):
    """Write a tiny HuBERT with random weights in the layout of ContentVec, and return its folder."""
    torch.manual_seed(0)
    config = HubertConfig(
        hidden_size=768, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=16,
        classifier_proj_size=256, conv_dim=[8] * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=16,
    )  # fmt: skip
    weights = HubertModel(config).state_dict()
    if projection:
        weights |= {"final_proj.weight": torch.randn(256, 768) / 28, "final_proj.bias": torch.randn(256)}
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    torch.save(weights, folder / "pytorch_model.bin")
    return folder


def make_pitch_weights(folder, name):
    """Write a tiny pitch network with random weights in the layout of its published file, and return the path."""
    torch.manual_seed(0)
    write = {"rmvpe": _rmvpe_file, "fcpe": _fcpe_file, "crepe": _crepe_file, "crepe_tiny": _crepe_file}[name]
    path = folder / f"{name}.pt"
    torch.save(write(), path)
    return str(path)


def _rmvpe_file():
    network = RmvpeNetwork(channels=2, hidden_channels=4)
    # With clear peaks, so that rounding does not move them.
    torch.nn.init.normal_(network.fc[1].weight)
    return {name: value.half() for name, value in network.state_dict().items()}


def _fcpe_file():
    network = FcpeNetwork(channels=16, n_layers=2)
    torch.nn.init.normal_(network.output.weight)
    network.cent_table.copy_(torch.linspace(2051, 9151, 360))
    names = {"first": "input_stack.0", "group_norm": "input_stack.1", "second": "input_stack.3"}
    parts = {"norm": "0", "expand": "2", "depthwise": "4.conv", "project": "6"}
    stored = {"gaussian_blurred_cent_mask": torch.tensor(0.1)}
    for name, value in network.state_dict().items():
        module, *rest = name.split(".")
        if module == "layers":
            number, part, kind = rest
            stored[f"net.encoder_layers.{number}.norm.weight"] = torch.ones(16)
            value = value[:, :, None] if (part, kind) in (("expand", "weight"), ("project", "weight")) else value
            stored[f"net.encoder_layers.{number}.conformer.net.{parts[part]}.{kind}"] = value
        elif name == "output.weight":
            stored |= {"output_proj.weight_g": value.norm(dim=1, keepdim=True), "output_proj.weight_v": 3 * value}
        else:
            stored[".".join([names.get(module, module), *rest]).replace("output.", "output_proj.")] = value
    return {"config_dict": {}, "global_step": 1, "model": stored}


def _crepe_file():
    network = CrepeNetwork((4, 4, 4, 4, 4, 8))
    torch.nn.init.normal_(network.classifier.weight)
    stored = {}
    for name, value in network.state_dict().items():
        module, *rest = name.split(".")
        if module == "stages":
            number, part, kind = rest
            layer = f"conv{int(number) + 1}{'_BN' if part == 'norm' else ''}"
            stored[f"{layer}.{kind}"] = value[..., None] if (part, kind) == ("conv", "weight") else value
        else:
            stored[name] = value
    return stored
