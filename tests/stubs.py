"""Stand-ins of the golden data for the content encoder and the pitch extractor, and a Fabric on the CPU."""

import golden_rule
import numpy as np
import torch
from lightning import Fabric

from rvc_lightning.content.base import ContentEncoder
from rvc_lightning.pitch.base import PitchExtractor


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
