"""A small voice for tests of live conversion, and audio for it."""

import golden_rule
import numpy as np
from lightning import Fabric
from stubs import cpu_trainer, make_voice, quick_config

from rvc_lightning import ConversionOptions, VoiceConverter
from rvc_lightning.audio.frames import CONTENT_SAMPLES, FRAME_SAMPLES, WINDOW_SAMPLES, content_frames
from rvc_lightning.content.base import ContentEncoder
from rvc_lightning.conversion.lengths import StreamLengths
from rvc_lightning.errors import VoiceError
from rvc_lightning.live.engine import Engine
from rvc_lightning.live.options import Changes, LiveOptions
from rvc_lightning.pitch.base import PitchExtractor

RATE = 8000
"""Sampling rate of the voice."""
LENGTHS = StreamLengths(block_seconds=0.08, context_seconds=0.2, lookahead_seconds=0.025, fade_seconds=0.02)


class LocalContent(ContentEncoder):
    """Encoder that returns the samples of each frame, independently of its surroundings."""

    name, dim = "local", 768

    def forward(self, wav16k, lengths):
        padded = np.pad(wav16k.numpy(), ((0, 0), (0, WINDOW_SAMPLES)))
        frames = content_frames(wav16k.shape[1])
        rows = np.lib.stride_tricks.sliding_window_view(padded, 256, axis=1)[
            :, : frames * CONTENT_SAMPLES : CONTENT_SAMPLES
        ]
        return wav16k.new_tensor(np.tile(rows, 3))

    def compile(self, **options):
        """Leave code of NumPy as it is."""


class LocalPitch(PitchExtractor):
    """Extractor whose pitch follows the level of each frame."""

    name = "local"

    def __call__(self, wav16k):
        frames = np.pad(np.abs(wav16k), (0, FRAME_SAMPLES))[: (len(wav16k) // 160 + 1) * 160].reshape(-1, 160)
        return (150 + 100 * frames.mean(axis=1)).astype(np.float32)


def load_converter(path="anna.pth"):
    """Return the converter of a voice; voices other than `anna.pth` have twice its sampling rate."""
    if path == "none.pth":
        raise VoiceError("'none.pth' does not exist")
    other = {"sample_rate": 16000, "upsample_rates": (20, 8), "upsample_kernel_sizes": (40, 16)}
    voice = make_voice(quick_config(**{} if path == "anna.pth" else other))
    return VoiceConverter(voice, content=LocalContent(), pitch=LocalPitch(), trainer=cpu_trainer())


def make_engine(input_rate=16000, output_rate=RATE, load=load_converter, conversion=None, fabrics=None, **live):
    return Engine(
        load,
        Changes(ConversionOptions(**conversion or {}), LiveOptions(**live), voice="anna.pth"),
        input_rate=input_rate,
        output_rate=output_rate,
        lengths=LENGTHS,
        fabrics=fabrics or [Fabric(accelerator="cpu", devices=1)],
    )


def speech(seconds=2.0, rate=16000):
    return 0.5 * golden_rule.stub_audio("stream", seconds, rate)


def process_blocks(engine, audio, step=320):
    """Return the output of an engine for audio in blocks of `step` samples."""
    return np.concatenate([engine.process(audio[start : start + step]) for start in range(0, len(audio), step)])
