"""One step of training and a conversion on a CUDA device, in every precision."""

import numpy as np
import pytest
import torch
from lightning import Fabric
from stubs import make_voice, quick_config
from test_training import data_of, dataset, make_module, trainer_for

from rvc_lightning.conversion.converter import VoiceConverter

__all__ = ["dataset", "make_module"]  # fixtures

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_trains(make_module, dataset, precision):
    module = make_module()
    trainer_for(accelerator="gpu", devices=1, precision=precision).fit(module, data_of(dataset))
    assert all(parameter.isfinite().all() for parameter in module.parameters())
    assert module.optimizer_steps > 0


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_converts(precision):
    fabric = Fabric(accelerator="gpu", devices=1, precision=precision)
    converter = VoiceConverter(make_voice(quick_config()), fabric=fabric)
    tone = np.sin(np.arange(16000) * 2 * np.pi * 200 / 16000).astype(np.float32)
    audio, rate = converter.convert(tone, sample_rate=16000)
    assert len(audio) == rate and np.isfinite(audio).all()
