"""Conversion of sound as it comes in: a block in, a block out, a fixed time later.

    heard      ....|<--- context --->|<-- block -->|<lookahead>|          at 16 kHz
    said                           ><|<----------->|><                    fades around the borders of blocks
    given                                                        ....|    what was said, at an even pace

Each block is said together with what surrounds it, as a chunk of a recording is. Pitch that was used once stays, so
that the phase of the voice goes on where the last block has left it.

Legend: N samples, F frames of 10 ms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from lightning import Fabric

from rvc_lightning.audio.filters import highpass_zero_phase
from rvc_lightning.audio.frames import CONTENT_SAMPLES, FRAME_SAMPLES, FRAMES_PER_SECOND, SAMPLE_RATE
from rvc_lightning.audio.loudness import SILENT_PEAK, peak_of
from rvc_lightning.audio.stages import Resampler, Stage
from rvc_lightning.config.validation import check_types
from rvc_lightning.conversion.chunking import FADE_FRAMES, Chunk, Joiner, reflected
from rvc_lightning.conversion.contour import shaped_contour
from rvc_lightning.conversion.converter import VoiceConverter
from rvc_lightning.conversion.finishing import finished_rate, finishing
from rvc_lightning.conversion.inference import Window
from rvc_lightning.conversion.options import ConversionOptions, option_fields
from rvc_lightning.conversion.positional_noise import Place
from rvc_lightning.conversion.speakers import with_voice
from rvc_lightning.errors import AudioError, ConfigurationError, VoiceError
from rvc_lightning.pitch.base import PitchNetwork, measure

_NEEDS_THE_WHOLE = (
    *("proposed_pitch_hz", "f0_file", "write_f0", "volume_envelope", "split_on_silence", "clean_noise"),
    *("tail_seconds", "output_format"),
)
"""Options that ask for more of a recording than has been heard, or for a file."""

_ENDLESS = 1 << 62
_GENERATOR_FRAMES = 24
"""More than a HiFi-GAN generator hears on either side of a frame."""

_LEAST_LOOKAHEAD_SECONDS = 0.06
"""The last content frame ends up to 35 ms before its window, and the fade reaches 10 ms beyond the block."""


@dataclass(frozen=True)
class StreamLengths:
    """How much is worked on at once; all are rounded up to 20 ms.

    Raises:
        ConfigurationError: A length is too short.
    """

    block_seconds: float = 0.24
    """What is said at once. Longer blocks take less work a second, and more time until they are heard."""
    context_seconds: float = 1.0
    """Of what came before, heard again with each block."""
    lookahead_seconds: float = 0.1
    """Of what comes after, waited for. Where it is short, the ends of blocks are said less surely."""

    def __post_init__(self) -> None:
        check_types(self)
        demands = {
            "block_seconds": (self.block_seconds, 0.04),
            "context_seconds": (self.context_seconds, 0.1),
            "lookahead_seconds": (self.lookahead_seconds, _LEAST_LOOKAHEAD_SECONDS),
        }
        for name, (value, least) in demands.items():
            if not least <= value <= 60:
                raise ConfigurationError(f"{name}={value}: choose {least} to 60 seconds")

    @property
    def block_samples(self) -> int:
        """At 16 kHz."""
        return _on_grid(self.block_seconds)

    @property
    def context_samples(self) -> int:
        """At 16 kHz."""
        return _on_grid(self.context_seconds)

    @property
    def lookahead_samples(self) -> int:
        """At 16 kHz."""
        return _on_grid(self.lookahead_seconds)


class StreamingConverter(Stage):
    """Says what comes in with a voice: `push` a block of any length, get as much of the result.

    The result comes `latency_seconds` late: the first samples are silence, and `finish` gives what is still owed.
    Levels are left alone, for the loudest place is not known yet; what exceeds ±1 is clipped.
    """

    def __init__(
        self,
        converter: VoiceConverter,
        options: ConversionOptions | None = None,
        *,
        sample_rate: int,
        lengths: StreamLengths | None = None,
        fabric: Fabric | None = None,
    ) -> None:
        """Gets ready for one stream.

        Args:
            converter: With the voice.
            options: Those that need no more than has been heard.
            sample_rate: Of what comes in, in Hz.
            lengths: How much is worked on at once.
            fabric: Device and precision; by default the accelerator there is, in float32.

        Raises:
            ConfigurationError: An option needs the whole recording, or the rate is out of range.
            VoiceError: The voice has no such speaker or no pitch to change, or the index does not fit.
        """
        options = options or ConversionOptions()
        _check(options, converter, sample_rate)
        self._options = with_voice(options, converter.voice)
        self._speaker, self._pitch = converter.speaker, converter.pitch
        self._index = converter.index_for(self._options)
        self._lengths = lengths or StreamLengths()
        self._fabric = fabric or Fabric(accelerator="auto", devices=1)
        self._fabric.to_device(self._speaker.eval())
        voice_rate = converter.voice.sample_rate
        self.sample_rate = finished_rate(self._options, voice_rate)
        self._source_rate = sample_rate
        self._resampler = Resampler(sample_rate, SAMPLE_RATE)
        self._finishing = finishing(self._options, voice_rate)
        self._said = _Queue()
        # The generator hears less of what came before than the networks that are given words.
        heard_frames = min(_GENERATOR_FRAMES, self._lengths.context_samples // FRAME_SAMPLES)
        self._first_frame = self._lengths.context_samples // FRAME_SAMPLES - heard_frames
        self._hop_samples = converter.voice.config.hop_samples
        self._joiner = Joiner(self._said, heard_frames * FRAME_SAMPLES, self._hop_samples, _ENDLESS)
        # What was heard, from sample `_first` on; the next block starts at `_next`.
        self._heard, self._first, self._next = np.zeros(0, np.float32), 0, 0
        # Pitch of the context of the next block, and the phase that it starts with.
        self._used_f0_hz: np.ndarray | None = None
        self._cycles = 0.0
        self._ready = _Queue()
        self._latency_samples = self._latency(voice_rate)
        self._ready.append(np.zeros(self._latency_samples, np.float32))
        self._taken = self._given = 0

    @property
    def latency_seconds(self) -> float:
        """How much later the result is than what it was made of, the time of the computation not counted."""
        return self._latency_samples / self.sample_rate

    def push(self, block: np.ndarray) -> np.ndarray:
        """Takes the next samples and gives as many of the result.

        Args:
            block: Mono at full scale 1, float [N], of any length.

        Returns:
            Float32, as many samples as the block has at the rate of the result.

        Raises:
            AudioError: The block is not mono, or holds NaN or infinity.
            VoiceError: The voice gives NaN or infinity.
        """
        block = np.asarray(block, dtype=np.float32)
        if block.ndim != 1 or not np.isfinite(block).all():
            raise AudioError(f"a block of shape {block.shape} is not mono, or holds NaN or infinity")
        self._taken += len(block)
        self._hear(self._resampler.push(block))
        while self._next + self._lengths.block_samples + self._lengths.lookahead_samples <= self._heard_until:
            self._say()
        return self._give(self._taken * self.sample_rate // self._source_rate - self._given)

    def finish(self) -> np.ndarray:
        """Ends the stream and gives the rest, so that the result is as long as what came in and the latency."""
        self._hear(self._resampler.finish())
        while self._next < self._heard_until:
            self._say()
        self._ready.append(self._finishing.finish())
        whole = -(-self._taken * self.sample_rate // self._source_rate)
        return self._give(whole + self._latency_samples - self._given)

    @property
    def _heard_until(self) -> int:
        """Samples at 16 kHz since the beginning."""
        return self._first + len(self._heard)

    def _hear(self, audio: np.ndarray) -> None:
        """Adds samples at 16 kHz, and drops what no block needs any more."""
        keep = max(self._next - self._lengths.context_samples - self._first, 0)
        self._heard = np.concatenate([self._heard[keep:], audio])
        self._first += keep

    def _say(self) -> None:
        """Says the next block; beyond the ends of the stream it is reflected."""
        chunk = Chunk(self._next, self._next + self._lengths.block_samples)
        start, stop = chunk.start - self._lengths.context_samples, chunk.end + self._lengths.lookahead_samples
        # Not what happens to be there already beyond it: how blocks are cut must not count.
        known = self._heard[: stop - self._first]
        heard = reflected(known, start - self._first, stop - self._first)
        window = self._window(highpass_zero_phase(heard, SAMPLE_RATE), chunk)
        if peak_of(heard) < SILENT_PEAK:
            piece = np.zeros((len(heard) // FRAME_SAMPLES - self._first_frame) * self._hop_samples, np.float32)
        else:
            with self._fabric.autocast():
                piece = self._speaker.speak([window], self._options, self._index, self._first_frame)[0]
        if not np.isfinite(piece).all():
            raise VoiceError("the voice gives NaN or infinity; if the precision is not '32-true', try that")
        self._joiner.add(piece, chunk, is_followed=True)
        self._ready.append(self._finishing.push(self._said.take()))
        self._next = chunk.end

    def _window(self, heard: np.ndarray, chunk: Chunk) -> Window:
        """What the speaker is given for a block; keeps the pitch that the next one begins with."""
        frame = chunk.start // FRAME_SAMPLES
        place = Place(f"{self._options.seed} stream", frame)
        if self._pitch is None:
            return Window(heard, None, place)
        f0_hz = shaped_contour(self._measured(heard), self._options)
        if self._used_f0_hz is not None:
            f0_hz[: len(self._used_f0_hz)] = self._used_f0_hz
        start_cycles = self._cycles + float(f0_hz[: self._first_frame].sum(dtype=np.float64)) / FRAMES_PER_SECOND
        window = Window(heard, f0_hz, place, start_cycles % 1)
        block, context = (
            samples // FRAME_SAMPLES for samples in (self._lengths.block_samples, self._lengths.context_samples)
        )
        self._used_f0_hz = f0_hz[block : block + context].copy()
        self._cycles = (self._cycles + float(f0_hz[:block].sum(dtype=np.float64)) / FRAMES_PER_SECOND) % 1.0
        return window

    def _measured(self, heard: np.ndarray) -> np.ndarray:
        """Pitch of a window [N] at 16 kHz, f0_hz [N // 160 + 1]."""
        if isinstance(self._pitch, PitchNetwork):
            return self._speaker.measure([heard])[0]
        assert self._pitch is not None
        return measure(self._pitch, heard)

    def _give(self, samples: int) -> np.ndarray:
        """The next samples of the result."""
        self._given += samples
        return np.clip(self._ready.take(samples), -1, 1)

    def _latency(self, voice_rate: int) -> int:
        """Samples that the result must be late by, so that there is always enough of it."""
        lengths = self._lengths
        seconds = (lengths.block_samples + lengths.lookahead_samples) / SAMPLE_RATE
        seconds += FADE_FRAMES / 2 / FRAMES_PER_SECOND
        seconds += lag_seconds(self._source_rate, SAMPLE_RATE) + lag_seconds(voice_rate, self.sample_rate)
        return math.ceil(seconds * self.sample_rate)


class _Queue:
    """Samples that wait: appended at one end, taken from the other."""

    def __init__(self) -> None:
        self._waiting = np.zeros(0, np.float32)
        self._taken = 0

    def __len__(self) -> int:
        return self._taken + len(self._waiting)

    def append(self, block: np.ndarray) -> None:
        self._waiting = np.concatenate([self._waiting, block])

    def take(self, samples: int | None = None) -> np.ndarray:
        """The next samples, or all that wait."""
        taken, self._waiting = np.split(self._waiting, [len(self._waiting) if samples is None else samples])
        self._taken += len(taken)
        return taken


def lag_seconds(from_rate: int, to_rate: int) -> float:
    """How much a resampler keeps back at most, in seconds."""
    if from_rate == to_rate:
        return 0.0
    resampler, given, most = Resampler(from_rate, to_rate), 0, 0.0
    step = max(from_rate // 1000, 1)
    for taken in range(step, from_rate, step):
        given += len(resampler.push(np.zeros(step, np.float32)))
        most = max(most, taken / from_rate - given / to_rate)
    return most


def _check(options: ConversionOptions, converter: VoiceConverter, sample_rate: int) -> None:
    """Refuses what cannot be done to a stream, before anything is heard."""
    converter.check(options)
    chosen = [
        one.name
        for one in option_fields(ConversionOptions)
        if one.name in _NEEDS_THE_WHOLE and getattr(options, one.name) != one.default
    ]
    chosen += [f"effects={effect.name}" for effect in options.effects if not effect.is_live]
    if chosen:
        raise ConfigurationError(
            f"{', '.join(chosen)}: not in a stream, for it takes the whole recording; leave it out"
        )
    if not 8000 <= sample_rate <= 192_000:
        raise ConfigurationError(f"sample_rate={sample_rate}: choose 8000 to 192000 Hz")


def _on_grid(seconds: float) -> int:
    return math.ceil(seconds * SAMPLE_RATE / CONTENT_SAMPLES - 1e-9) * CONTENT_SAMPLES
