"""The content loss compares words and leaves the encoder alone."""

import pytest
import torch
from runs import noise_batch
from tiny import WEIGHTS, tiny_module

from rvc_lightning.audio.decode import load_audio
from rvc_lightning.cli.resolvers import DEMO_FOLDER
from rvc_lightning.data.batch import collate
from rvc_lightning.training.content_loss import ContentLoss


@pytest.mark.parametrize("sample_rate", [16000, 24000, 40000])
def test_other_words_are_farther_than_other_sampling_rates_and_levels(sample_rate):
    first, other = (
        torch.from_numpy(load_audio(DEMO_FOLDER / "source" / name, sample_rate)[0])[None, None, : 2 * sample_rate]
        for name in ("01.flac", "02.flac")
    )
    loss = ContentLoss(sample_rate)
    assert loss(first, first) == 0
    assert loss(first, 0.7 * first) < 0.1 < 0.4 < loss(first, other)


def test_gradients_reach_the_generator_and_not_the_encoder():
    module = tiny_module(segment_frames=24, loss_weights=WEIGHTS | {"content": 10.0})
    terms = module.generator_losses(module.generate(collate(noise_batch(frames=40))))
    terms["content"].backward()
    assert any(parameter.grad is not None for parameter in module.synthesizer.generator.parameters())
    assert all(parameter.grad is None for parameter in module.content_loss.parameters())
    assert tiny_module(loss_weights=WEIGHTS | {"content": 0.0}).content_loss is None
