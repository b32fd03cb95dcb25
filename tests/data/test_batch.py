"""Collation of examples into batches."""

import torch

from rvc_lightning.audio.frames import CONTENT_REPEAT, frame_mask
from rvc_lightning.audio.spectra import LinearSpectrogram
from rvc_lightning.data.batch import Example, collate, content_at_frame_rate


def test_collation_equals_the_reference(golden):
    data = golden.arrays("dataset")
    items = []
    for number in range(3):
        wave, phone, f0_hz = (data[f"{key}_{number}"] for key in ("wave", "phone", "pitchf"))
        frames = min(CONTENT_REPEAT * len(phone), len(wave) // 240)
        items.append(Example(str(number), phone, f0_hz.float(), wave, frames, number))
    batch = collate(items)
    assert torch.equal(batch.lengths, data["batch_spec_lengths"])
    assert torch.equal(content_at_frame_rate(batch.content, int(batch.lengths[0])), data["batch_phone"])
    torch.testing.assert_close(batch.f0_hz, data["batch_pitchf"].float())

    frames = int(batch.lengths[0])
    spec = LinearSpectrogram(1024, 240)(batch.waveform, batch.waveform_lengths)[..., :frames]
    spec = spec * frame_mask(batch.lengths, frames).unsqueeze(1)
    torch.testing.assert_close(spec, data["batch_spec"], atol=1e-4, rtol=0)
