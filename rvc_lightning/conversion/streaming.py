"""Conversion of audio as it arrives: a block in, a block out, with a fixed latency.

    input      ....|<--- context --->|<-- block -->|<lookahead>|          at 16 kHz
    converted                      ><|<----------->|><                    fades around the borders of blocks
    output                                                       ....|    converted audio, at a steady rate

Each block is converted together with its context, as is a chunk of a recording. The pitch of a frame never changes
after its first use, so that the phase of the voice continues from block to block.

Legend: N samples, F frames of 10 ms.
"""

from __future__ import annotations

import copy
import logging
import math
from collections import deque
from dataclasses import replace
from time import perf_counter

import numpy as np
from lightning import Fabric

from rvc_lightning.audio.filters import highpass_zero_phase
from rvc_lightning.audio.frames import FRAME_SAMPLES, FRAMES_PER_SECOND, SAMPLE_RATE
from rvc_lightning.audio.loudness import SILENT_PEAK, peak_of
from rvc_lightning.audio.stages import Chain, Stage
from rvc_lightning.audio.variable_rate import VariableResampler, resampling_delay
from rvc_lightning.conversion.chunking import Chunk, Joiner, reflected
from rvc_lightning.conversion.contour import shape_contour
from rvc_lightning.conversion.converter import VoiceConverter
from rvc_lightning.conversion.effects import PitchShift
from rvc_lightning.conversion.finishing import finishing_chain, output_rate
from rvc_lightning.conversion.formants import Stretch, cycles_before
from rvc_lightning.conversion.inference import Window
from rvc_lightning.conversion.lengths import StreamLengths
from rvc_lightning.conversion.levels import check_finite
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.conversion.positional_noise import Position
from rvc_lightning.conversion.speakers import resolve_options
from rvc_lightning.errors import AudioError
from rvc_lightning.pitch.base import PitchNetwork, measure

log = logging.getLogger(__name__)

UNSUPPORTED_OPTIONS = (
    *("proposed_pitch_hz", "f0_file", "write_f0", "volume_envelope", "split_on_silence", "clean_noise"),
    *("tail_seconds", "output_format"),
)
"""Options that require the whole recording, or a file."""
_UNSUPPORTED = "not in a stream, only for whole recordings; leave it out"

_ENDLESS = 1 << 62
_GENERATOR_FRAMES = 24
"""More than the receptive field of a HiFi-GAN generator on either side of a frame."""

_MAX_INPUT = 100.0
"""Largest sample, 40 dB above full scale; the networks overflow at much larger ones."""
_MIN_OUTPUT_DELAY_SECONDS = 0.002
"""Delay of the resampler of the output for a voice of 20 kHz: the latency is the same for all voices from there on."""
_TIMED_BLOCKS = 1000
_PITCH_CONTEXT_SAMPLES = 4000
"""Context of pitch extractors on the host."""
_PITCH_GRID_SAMPLES = 1280
"""Their windows start at multiples of 80 ms, on the frame grids of the whole stream: 10 ms, and 16 ms for SwiftF0."""


class StreamingConverter(Stage):
    """Converts a stream: `push` takes a block of any length and returns as much of the output.

    The output is `latency_seconds` late: it starts with silence, and `finish` returns the remainder. Levels are not
    adjusted, because the peak of the stream is not known in advance; samples beyond ±1 are clipped.
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
        """Initialize the converter for one stream.

        Args:
            converter: Converter with the voice.
            options: Options that do not require the whole recording.
            sample_rate: Sampling rate of the input in Hz.
            lengths: Lengths of block, context and lookahead.
            fabric: Device and precision; by default one accelerator in float32.

        Raises:
            ConfigurationError: An option requires the whole recording, or a pitch that the voice does not have.
            VoiceError: The voice has no such speaker.
        """
        options = options or ConversionOptions()
        self._converter, self._lengths, self._source_rate = converter, lengths or StreamLengths(), sample_rate
        self.change(options)
        self._inference, self._pitch = converter.inference.eval(), converter.pitch
        self.fabric = fabric or Fabric(accelerator="auto", devices=1)
        """Device and precision."""
        self.fabric.to_device(self._inference)
        voice_rate = converter.voice.sample_rate
        self.sample_rate = output_rate(self._options, voice_rate)
        self._resampler = _resampling(sample_rate, SAMPLE_RATE)
        finishing = finishing_chain(replace(self._options, output_sample_rate=None), voice_rate)
        self._finishing = Chain([finishing, _resampling(voice_rate, self.sample_rate)])
        self._joined = _Queue()
        self._hop_samples = converter.voice.config.hop_samples
        context_samples = self._lengths.context_samples - self._first_frame * FRAME_SAMPLES
        self._joiner = Joiner(self._joined, context_samples, self._hop_samples, _ENDLESS, self._lengths.fade_frames)
        # Input from sample `_first` on; the next block starts at `_next`.
        self._input, self._first, self._next = np.zeros(0, np.float32), 0, 0
        # Pitch of the context of the next block, and the phase before it.
        self._context_f0_hz, self._cycles = np.zeros(0, np.float32), 0.0
        self._stretch = Stretch.by(options.formant_semitones)
        self._output, self._latency_samples = _Queue(), self._latency()
        self._output.append(np.zeros(self._latency_samples, np.float32))
        self._pushed_samples, self._returned_samples, self._has_warned = 0, 0, False
        self.compute_seconds: deque[float] = deque(maxlen=_TIMED_BLOCKS)
        """Time that each of the last blocks with sound took."""

    def change(self, options: ConversionOptions) -> None:
        """Use other options from the next block on, which fades in; effects and output rate stay as they are.

        Raises:
            ConfigurationError: See `StreamingConverter`.
            VoiceError: See `StreamingConverter`.
        """
        self.check(options)
        self._options = resolve_options(options, self._converter.voice)
        self._index = self._converter.index_for(self._options)

    def check(self, options: ConversionOptions) -> None:
        """Check options without using them.

        Raises:
            ConfigurationError: See `StreamingConverter`.
            VoiceError: See `StreamingConverter`.
        """
        self._converter.check(options)
        shifts_pitch = any(isinstance(effect, PitchShift) for effect in options.effects)
        options.reject(_UNSUPPORTED, *UNSUPPORTED_OPTIONS, *(["effects"] if shifts_pitch else []))

    def continue_from(self, other: StreamingConverter) -> int:
        """Continue the stream of `other`, of the same rates and lengths, with this voice from its next block on.

        Returns:
            Number of output samples from now until the output of this voice is complete. Until then, use the output of
            `other`, to which the same input must be pushed.
        """
        self._resampler = copy.deepcopy(other._resampler)
        self._input, self._first, self._next = other._input, other._first, other._next
        self._context_f0_hz, self._cycles, self._stretch = other._context_f0_hz, other._cycles, other._stretch
        self._pushed_samples, self._returned_samples = other._pushed_samples, other._returned_samples
        start = self._next // FRAME_SAMPLES
        self._joined.taken = start * self._hop_samples
        self._output = copy.deepcopy(other._output)
        place = self._latency_samples + round(start * self.sample_rate / FRAMES_PER_SECOND)
        self._output.append(np.zeros(place - len(self._output), np.float32))
        fade_seconds = self._lengths.fade_frames / FRAMES_PER_SECOND + _MIN_OUTPUT_DELAY_SECONDS
        return len(self._output) - self._returned_samples + math.ceil(fade_seconds * self.sample_rate)

    @property
    def blocks(self) -> int:
        """Number of blocks so far."""
        return self._next // self._lengths.block_samples

    @property
    def last_f0_hz(self) -> float:
        """Pitch of the output in Hz at the end of the last block; 0 if it is unvoiced."""
        return float(self._context_f0_hz[-1]) if len(self._context_f0_hz) else 0.0

    @property
    def latency_seconds(self) -> float:
        """Delay of the output, not counting the time of the computation."""
        return self._latency_samples / self.sample_rate

    def push(self, block: np.ndarray) -> np.ndarray:
        """Take the next samples and return as much of the output.

        Args:
            block: Mono audio at full scale 1, float [N], of any length.

        Returns:
            Float32 samples, as many as the block has at the rate of the output.

        Raises:
            AudioError: The block is not mono, or contains NaN or infinity.
            VoiceError: The voice returns NaN or infinity.
        """
        block = np.asarray(block, dtype=np.float32)
        if block.ndim != 1 or not np.isfinite(block).all():
            raise AudioError(f"a block of shape {block.shape} is not mono, or contains NaN or infinity")
        if peak_of(block) > _MAX_INPUT:
            block = np.clip(block, -_MAX_INPUT, _MAX_INPUT)
            if not self._has_warned:
                log.warning("Samples far exceed full scale and are clipped; check the encoding of the input")
            self._has_warned = True
        self._pushed_samples += len(block)
        self._append(self._resampler.push(block))
        while self._next + self._lengths.block_samples + self._lengths.lookahead_samples <= self._input_end:
            self._convert_block()
        return self._take(self._pushed_samples * self.sample_rate // self._source_rate - self._returned_samples)

    def finish(self) -> np.ndarray:
        """End the stream and return the rest, so that the output is as long as the input and the latency."""
        self._append(self._resampler.finish())
        # The end of a block is complete when the next one has faded in.
        fading = self._lengths.fade_frames // 2 * FRAME_SAMPLES
        while 0 < self._input_end > self._next - fading:
            self._convert_block()
        self._output.append(self._finishing.finish())
        total = -(-self._pushed_samples * self.sample_rate // self._source_rate)
        return self._take(total + self._latency_samples - self._returned_samples)

    @property
    def _first_frame(self) -> int:
        """First frame of the generator in a window: it needs less context than the other networks."""
        return max(self._lengths.context_samples // FRAME_SAMPLES - _GENERATOR_FRAMES, 0)

    @property
    def _input_end(self) -> int:
        """Samples of input at 16 kHz so far."""
        return self._first + len(self._input)

    def _append(self, audio: np.ndarray) -> None:
        """Append samples at 16 kHz, and drop those that precede the context of the next block."""
        keep = max(self._next - self._lengths.context_samples - self._first, 0)
        self._input = np.concatenate([self._input[keep:], audio])
        self._first += keep

    def _convert_block(self) -> None:
        """Convert the next block; beyond its ends the stream is reflected."""
        started = perf_counter()
        chunk = Chunk(self._next, self._next + self._lengths.block_samples)
        start, stop = chunk.start - self._lengths.context_samples, chunk.end + self._lengths.lookahead_samples
        # Input beyond the lookahead is ignored: the result must not depend on the lengths of pushed blocks.
        audio = reflected(self._input[: stop - self._first], start - self._first, stop - self._first)
        is_silent = peak_of(audio) < SILENT_PEAK
        window = self._window(highpass_zero_phase(audio, SAMPLE_RATE), chunk, is_silent)
        if is_silent:
            piece = np.zeros((len(audio) // FRAME_SAMPLES - self._first_frame) * self._hop_samples, np.float32)
        else:
            with self.fabric.autocast():
                (piece,) = self._inference.convert([window], self._options, self._index, self._first_frame)
            self.compute_seconds.append(perf_counter() - started)
        check_finite(piece)
        self._joiner.add(piece, chunk, is_followed=True)
        self._output.append(self._finishing.push(self._joined.take()))
        self._next = chunk.end

    def _window(self, audio: np.ndarray, chunk: Chunk, is_silent: bool) -> Window:
        """Return the input of the networks for a block, and keep the pitch of the next block's context."""
        position = Position(f"{self._options.seed} stream", chunk.start // FRAME_SAMPLES)
        if self._pitch is None:
            return Window(audio, None, position)
        measured = np.zeros(len(audio) // FRAME_SAMPLES + 1, np.float32)
        if not is_silent:
            self._measure_pitch(audio, chunk, measured)
        f0_hz = shape_contour(measured, self._options)
        f0_hz[: len(self._context_f0_hz)] = self._context_f0_hz
        window = Window(audio, f0_hz, position, self._cycles_before(f0_hz, position.frame))
        block, context = (
            samples // FRAME_SAMPLES for samples in (self._lengths.block_samples, self._lengths.context_samples)
        )
        self._context_f0_hz = f0_hz[block : block + context].copy()
        generated = self._stretch.contour(f0_hz, position.frame)
        self._cycles = (self._cycles + cycles_before(generated, self._stretch.count(position.frame, block))) % 1
        return window

    def _cycles_before(self, f0_hz: np.ndarray, frame: int) -> float:
        """Return the phase before the generator's first frame, for the pitch [F] of a window from `frame` on."""
        stretch = Stretch.by(self._options.formant_semitones)
        if stretch != self._stretch:
            # The phase at the start of the block, which fades in, stays the same.
            before, after = (value.phase(f0_hz, frame, len(self._context_f0_hz)) for value in (self._stretch, stretch))
            self._cycles, self._stretch = self._cycles + before - after, stretch
        skipped = stretch.skipped(self._first_frame)
        return (self._cycles + cycles_before(stretch.contour(f0_hz, frame), skipped)) % 1

    def _measure_pitch(self, audio: np.ndarray, chunk: Chunk, f0_hz: np.ndarray) -> None:
        """Write the pitch of a window [N] at 16 kHz to f0_hz [N // 160 + 1], at least from its block on."""
        if isinstance(self._pitch, PitchNetwork):
            f0_hz[:] = self._inference.measure_pitch([audio])[0]
            return
        assert self._pitch is not None
        start = (chunk.start - _PITCH_CONTEXT_SAMPLES) // _PITCH_GRID_SAMPLES * _PITCH_GRID_SAMPLES
        # The first block has no pitch of its context yet.
        skipped = max(start - (chunk.start - self._lengths.context_samples), 0) if len(self._context_f0_hz) else 0
        f0_hz[skipped // FRAME_SAMPLES :] = measure(self._pitch, audio[skipped:])

    def _take(self, samples: int) -> np.ndarray:
        """Return the next samples of the output."""
        self._returned_samples += samples
        return np.clip(self._output.take(samples), -1, 1)

    def _latency(self) -> int:
        """Return the smallest delay in output samples at which the output never runs out."""
        lengths = self._lengths
        seconds = (lengths.block_samples + lengths.lookahead_samples) / SAMPLE_RATE
        seconds += lengths.fade_frames / 2 / FRAMES_PER_SECOND
        seconds += resampling_delay(self._source_rate, SAMPLE_RATE)
        seconds += max(resampling_delay(self._converter.voice.sample_rate, self.sample_rate), _MIN_OUTPUT_DELAY_SECONDS)
        return math.ceil(seconds * self.sample_rate)


class _Queue:
    """Queue of samples."""

    def __init__(self) -> None:
        self._waiting = np.zeros(0, np.float32)
        self.taken = 0
        """Samples removed so far."""

    def __len__(self) -> int:
        """Samples appended so far."""
        return self.taken + len(self._waiting)

    def append(self, block: np.ndarray) -> None:
        self._waiting = np.concatenate([self._waiting, block])

    def take(self, samples: int | None = None) -> np.ndarray:
        """Remove and return the next samples, or all of them."""
        taken, self._waiting = np.split(self._waiting, [len(self._waiting) if samples is None else samples])
        self.taken += len(taken)
        return taken


def _resampling(from_rate: int, to_rate: int) -> Chain:
    return Chain([] if from_rate == to_rate else [VariableResampler(from_rate, to_rate)])
