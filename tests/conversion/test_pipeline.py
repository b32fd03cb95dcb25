"""Whole conversions equal the reference data (SPECIFICATION.md, section 10)."""

import golden_rule
import numpy as np
import pytest
import torch
from golden import GOLDEN
from stubs import StubContent, StubPitch, cpu_trainer
from torch.testing import assert_close

from rvc_lightning import ConversionOptions, Voice, VoiceConverter
from rvc_lightning.conversion.inference import protect_unvoiced
from rvc_lightning.conversion.levels import VolumeEnvelope
from rvc_lightning.conversion.source import read_recording
from rvc_lightning.retrieval.index import RetrievalIndex

pytestmark = pytest.mark.slow

HOP = 400
REFERENCE_FRAMES = 82
"""Frames of the reference, which lacks the last of 83."""


def convert(golden, case, **changes):
    about = golden.table("pipeline")[case]
    index = GOLDEN / about["index"] if "index" in about else None
    voice = Voice.load(golden.path(f"voices/{about['voice']}.pth"))
    converter = VoiceConverter(voice, index, content=StubContent(), pitch=StubPitch(), trainer=cpu_trainer())
    options = {
        "transpose_semitones": about.get("pitch", 0),
        "index_rate": about.get("index_rate", 0.75),
        "protect": about.get("protect", 0.5),
        "volume_envelope": about.get("envelope", 1.0),
        "speaker": about.get("sid", 0),
    }
    audio = golden.arrays("pipeline")["short"].numpy()
    return converter.convert(audio, ConversionOptions(**options | changes), 16000)


@pytest.mark.parametrize("case", ["plain", "no_f0"])
def test_whole_conversion(golden, no_noise, case):
    audio, sample_rate = convert(golden, case)
    assert sample_rate == 40000
    assert audio.shape == (83 * HOP,) and audio.dtype == np.float32
    expected = golden.arrays("pipeline")[f"out_{case}"].numpy()
    np.testing.assert_allclose(audio[: REFERENCE_FRAMES * HOP], expected, atol=1e-4, rtol=0)


def test_whole_conversion_with_index_protect_and_envelope(golden, no_noise, tmp_path):
    # The envelope is stretched over the whole output, which is one frame longer than the reference.
    audio, _ = convert(golden, "index_protect_envelope", volume_envelope=1.0)
    source = read_recording(golden.arrays("pipeline")["short"].numpy(), 16000, tmp_path).audio
    trimmed = audio[: REFERENCE_FRAMES * HOP]
    mixed = trimmed * VolumeEnvelope(trimmed, 40000, source, 16000, 0.25).gain(slice(0, len(trimmed)))
    assert_close(torch.from_numpy(mixed), golden.arrays("pipeline")["out_index_protect_envelope"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("protect", [0.5, 0.33, 0.0])
def test_protected_features(golden, protect):
    data = golden.arrays("protect")
    content = torch.from_numpy(golden_rule.stub_embed(data["audio_3440"][:3280].numpy()))[None]
    mixed = RetrievalIndex.load(GOLDEN / "indexes/golden.index").mix(content, 0.6)
    f0_hz = torch.from_numpy(golden_rule.stub_f0(26)[6:])[None, : 2 * content.shape[1]]
    given = protect_unvoiced(mixed.repeat_interleave(2, 1), content.repeat_interleave(2, 1), f0_hz, protect)
    assert_close(given, data[f"feats_n3280_p{protect}"], atol=1e-4, rtol=0)
