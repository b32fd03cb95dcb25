"""Stand-ins of the golden data for the content encoder and the pitch extractor, and a Fabric on the CPU."""

import golden_rule
import numpy as np
import torch
from lightning import Fabric
from transformers import HubertConfig, HubertModel

from rvc_lightning.content.base import ContentEncoder
from rvc_lightning.models import Synthesizer, SynthesizerConfig
from rvc_lightning.pitch.base import PitchExtractor
from rvc_lightning.voice.voice import Voice


class StubContent(ContentEncoder):
    name = "stub"

    def __init__(self, dim=768):
        super().__init__()
        self.dim = dim

    def forward(self, wav16k, lengths):
        return torch.from_numpy(golden_rule.stub_embed(wav16k[0].numpy(), self.dim))[None]


class StubPitch(PitchExtractor):
    name = "stub"

    def __call__(self, wav16k):
        return golden_rule.stub_f0(len(wav16k) // 160 + 1).astype(np.float32)


def steady_fabric():
    return Fabric(accelerator="cpu", devices=1)


def quick_config(**changes):
    """The least that is a synthesizer: 8 kHz, two stages, one residual block."""
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
    """A voice with random weights, reproducible, that remembers the spectral content encoder."""
    torch.manual_seed(0)
    state = Synthesizer(config).state_dict()
    return Voice.from_synthesizer(config, state, {"embedder_model": "spectral"} | information)


def make_hubert(folder, layers=10, projection=True):
    """A folder with a tiny HuBERT of random weights, stored as ContentVec is."""
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
