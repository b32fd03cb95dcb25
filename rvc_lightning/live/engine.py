"""The engine of live conversion, which pipes, devices and browsers share.

    input ─▶ gain ─▶ noise reduction ─▶ gate ─┬─▶ voice ────────────┬─▶ bypass ─▶ gain, mute ─▶ output
                                              └─▶ delay (original) ─┘

Everything can change while it runs. Gains change within 20 ms, and options fade in with the next block. Another voice
or other effects are loaded in a thread, and convert one block alongside the current ones before they fade in.

Legend: N samples of the input, M samples of the output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Thread
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning import Fabric

from rvc_lightning.audio.variable_rate import VariableResampler
from rvc_lightning.conversion.converter import VoiceConverter
from rvc_lightning.conversion.lengths import StreamLengths
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.conversion.streaming import StreamingConverter
from rvc_lightning.errors import ConfigurationError, RVCError
from rvc_lightning.io.threads import threads_per_operation
from rvc_lightning.live.failures import user_errors
from rvc_lightning.live.levels import Gate, InputDenoiser, Meter, Ramp, amplitude
from rvc_lightning.live.options import Changes, LiveOptions
from rvc_lightning.live.recorder import Recorder

_RAMP_SECONDS = 0.02
_WARM_UP_BLOCKS = 12
_COLD_BLOCKS = 3
"""Blocks of the warm-up that are not timed."""
_MIN_SPEEDUP = 1.2
"""Factor by which several threads must be faster than one to be used."""


class Plan(NamedTuple):
    """How blocks are computed."""

    fabric: Fabric
    """Device and precision."""
    threads: int
    """Threads of an operation on a CPU."""


class _Prepared(NamedTuple):
    """Another voice, or other effects, about to fade in."""

    converter: VoiceConverter
    stream: StreamingConverter
    plan: Plan
    values: Mapping[str, Any]
    """The changes that it was prepared for."""


@dataclass(frozen=True)
class Status:
    """State of the engine."""

    voice: str
    """Name of the voice's file."""
    input_db: float
    """Level of the input in dB of full scale."""
    output_db: float
    """Level of the output in dB of full scale."""
    f0_hz: float
    """Pitch of the output in Hz; 0 if it is unvoiced."""
    latency_seconds: float
    """Block, lookahead, half a fade, and resampling."""
    block_seconds: float
    """Length of a block."""
    compute_median_seconds: float
    """Time to convert a block, median of the last 1000."""
    compute_p99_seconds: float
    """Time to convert a block, 99th percentile of the last 1000."""
    blocks: int
    """Blocks converted so far."""
    message: str
    """Last error of a change, if any."""


class Engine:
    """Converts a stream whose options can change."""

    def __init__(
        self,
        load: Callable[[str], VoiceConverter],
        changes: Changes,
        *,
        input_rate: int,
        output_rate: int | None = None,
        lengths: StreamLengths | None = None,
        fabrics: Sequence[Fabric] = (),
    ) -> None:
        """Load the voice.

        Args:
            load: Function that loads the converter of a voice's file.
            changes: Options at the start, with a voice.
            input_rate: Sampling rate of the input in Hz.
            output_rate: Sampling rate of the output in Hz; None for that of the first voice, or of its options.
            lengths: Lengths of block, context, lookahead and fade.
            fabrics: A device, in one or several precisions, of which each voice uses the fastest; by default one
                accelerator in float32. On a CPU, each voice also uses one thread or all, whichever is faster.

        Raises:
            RVCError: The voice cannot be loaded, or does not support the options.
        """
        self._load, self._changes, self.input_rate = load, changes, input_rate
        self.lengths = lengths or StreamLengths()
        fabrics = fabrics or (Fabric(accelerator="auto", devices=1),)
        assert changes.voice is not None
        self._converter = load(changes.voice)
        self.output_rate = output_rate or changes.conversion.output_sample_rate or self._converter.voice.sample_rate
        self._plans = [Plan(fabric, count) for fabric in fabrics for count in _thread_counts(fabric)]
        self._plan = self._fastest_plan(self._converter, changes.conversion)
        self._stream = self._new_stream(self._converter, changes.conversion, self._plan.fabric)
        # The stream that is being replaced, and the number of samples until its successor fades in.
        self._leaving: StreamingConverter | None = None
        self._samples_until_fade = 0
        self._prepared: _Prepared | None = None
        self._preparation: Thread | None = None
        self._message = ""
        self._recorders: dict[str, Recorder] = {}
        self._make_path()
        self._apply_levels(changes.live)
        self._record(changes)

    def _make_path(self) -> None:
        """Build the gains, the gate, the meters and the path of the original audio."""
        ramp = round(_RAMP_SECONDS * self.output_rate)
        live = self._changes.live
        self._input_gain = Ramp(amplitude(live.input_gain_db), round(_RAMP_SECONDS * self.input_rate))
        self._output_gain = Ramp(0.0 if live.mute else amplitude(live.output_gain_db), ramp)
        self._bypass = Ramp(float(live.bypass), ramp)
        self._fade_samples = ramp
        self._denoiser = InputDenoiser(self.input_rate, round(_RAMP_SECONDS * self.input_rate))
        self._gate = Gate(self.input_rate)
        self._meters = Meter(self.input_rate), Meter(self.output_rate)
        equal = self.input_rate == self.output_rate
        self._dry_resampler = None if equal else VariableResampler(self.input_rate, self.output_rate)
        self._dry = np.zeros(round(self._stream.latency_seconds * self.output_rate), np.float32)

    def _fastest_plan(self, converter: VoiceConverter, options: ConversionOptions) -> Plan:
        """Convert noise by each plan, and return the one with the lowest time per block.

        Mixed precision converts each weight in each block, which takes longer than it saves in small networks. Several
        threads save them little time, and take it from the devices.
        """

        def cost(plan: Plan) -> float:
            seconds = float(np.median(self._rehearse(converter, options, plan)))
            return seconds if plan.threads == 1 else _MIN_SPEEDUP * seconds

        # A single plan needs no comparison, which would delay the start.
        return self._plans[0] if len(self._plans) == 1 else min(self._plans, key=cost)

    def _new_stream(self, converter: VoiceConverter, options: ConversionOptions, fabric: Fabric) -> StreamingConverter:
        return StreamingConverter(
            converter,
            replace(options, output_sample_rate=self.output_rate),
            sample_rate=self.input_rate,
            lengths=self.lengths,
            fabric=fabric,
        )

    @property
    def latency_seconds(self) -> float:
        """Delay of the output, not counting the time of the computation."""
        return self._stream.latency_seconds + self._denoiser.delay_samples / self.input_rate

    @property
    def compute_seconds(self) -> list[float]:
        """Time that each of the last blocks with sound took."""
        return list(self._stream.compute_seconds)

    @property
    def status(self) -> Status:
        """Levels, pitch and times."""
        seconds = self.compute_seconds or [0.0]
        return Status(
            voice=str(self._changes.voice),
            input_db=self._meters[0].level_db,
            output_db=self._meters[1].level_db,
            f0_hz=self._stream.last_f0_hz,
            latency_seconds=self.latency_seconds,
            block_seconds=self.lengths.block_seconds,
            compute_median_seconds=float(np.median(seconds)),
            compute_p99_seconds=float(np.percentile(seconds, 99)),
            blocks=self._stream.blocks,
            message=self._message,
        )

    def warm_up(self) -> tuple[float, float]:
        """Convert noise, so that one-time work of torch does not delay the first word.

        Returns:
            Median and maximum of the time per block, in seconds.
        """
        seconds = self._rehearse(self._converter, self._changes.conversion, self._plan)
        return float(np.median(seconds)), float(np.max(seconds))

    def _rehearse(self, converter: VoiceConverter, options: ConversionOptions, plan: Plan) -> list[float]:
        """Convert noise with a separate stream, and return the seconds per block."""
        stream = self._new_stream(converter, options, plan.fabric)
        samples = round(_WARM_UP_BLOCKS * self.lengths.block_seconds * self.input_rate)
        noise = np.random.default_rng(0).normal(size=samples + self.input_rate // 5)
        with threads_per_operation(plan.threads):
            stream.push((0.05 * noise).astype(np.float32))
        return list(stream.compute_seconds)[_COLD_BLOCKS:]

    def process(self, audio: np.ndarray) -> np.ndarray:
        """Convert the next samples.

        Args:
            audio: Mono audio at full scale 1, float [N], of any length.

        Returns:
            Float32 samples, as many as the input has at the rate of the output, `latency_seconds` late.

        Raises:
            AudioError: The audio is not mono, or contains NaN or infinity.
            VoiceError: The voice returns NaN or infinity.
        """
        audio = np.asarray(audio, np.float32)
        self._push_to("record_input", audio)
        self._meters[0].push(audio)
        with threads_per_operation(self._plan.threads):
            return self._through_voice(self._denoiser.push(audio * self._input_gain.take(len(audio))))

    def _through_voice(self, audio: np.ndarray) -> np.ndarray:
        """Return the output for input without noise [N]."""
        gated = self._gate.push(audio)
        voice = self._converted(gated)
        self._dry = np.concatenate([self._dry, self._resampled(gated)])
        return self._mixed(voice)

    def finish(self) -> np.ndarray:
        """End the stream: return the rest, and complete the recordings."""
        delayed = self._through_voice(self._denoiser.finish())
        if self._dry_resampler is not None:
            self._dry = np.concatenate([self._dry, self._dry_resampler.finish()])
        rest = self._mixed(self._stream.finish())
        self.close()
        return np.concatenate([delayed, rest])

    def close(self) -> None:
        """Complete the recordings."""
        for recorder in self._recorders.values():
            recorder.close()
        self._recorders = {}

    def _mixed(self, voice: np.ndarray) -> np.ndarray:
        """Return the output for audio of the voice [M]."""
        original, self._dry = np.split(self._dry, [len(voice)])
        share = self._bypass.take(len(voice))
        output = (voice * (1 - share) + original * share) * self._output_gain.take(len(voice))
        output = np.clip(output, -1, 1)
        self._meters[1].push(output)
        self._push_to("record_output", output)
        return output

    def _replace_stream(self, prepared: _Prepared) -> None:
        """Start the fade to a prepared stream, including the options changed while it was prepared."""
        stream = prepared.stream
        try:
            merged = self._changes.merged(prepared.values)
            changes = replace(self._changes, voice=merged.voice, conversion=merged.conversion)
            stream.change(replace(changes.conversion, output_sample_rate=self.output_rate))
        except RVCError as error:
            self._message = str(error)
            return
        self._leaving, self._stream, self._changes = self._stream, stream, changes
        self._converter, self._plan = prepared.converter, prepared.plan
        self._samples_until_fade = stream.continue_from(self._leaving)

    def _resampled(self, audio: np.ndarray) -> np.ndarray:
        return audio if self._dry_resampler is None else self._dry_resampler.push(audio)

    def _converted(self, audio: np.ndarray) -> np.ndarray:
        """Convert samples [N] to [M], and fade to a prepared stream."""
        if self._prepared is not None and self._leaving is None:
            self._replace_stream(self._prepared)
            self._prepared = None
        output = self._stream.push(audio)
        if self._leaving is None:
            return output
        position = np.arange(len(output)) - self._samples_until_fade
        share = np.clip(position / self._fade_samples, 0, 1).astype(np.float32)
        output = output * share + self._leaving.push(audio) * (1 - share)
        self._samples_until_fade -= len(output)
        if self._samples_until_fade <= -self._fade_samples:
            self._leaving = None
        return output

    def change(self, values: Mapping[str, Any]) -> None:
        """Change options while the engine runs; another voice and effects follow when they are loaded.

        Args:
            values: Names of `ConversionOptions`, `LiveOptions`, or 'voice', 'record_input' and 'record_output'.

        Raises:
            RVCError: A name or a value is invalid; nothing has changed.
        """
        changes = self._changes.merged(values)
        if changes.voice is None:
            raise ConfigurationError("voice=null: choose the file of a voice")
        before, conversion = self._changes, replace(changes.conversion, output_sample_rate=self.output_rate)
        needs_loading = changes.voice != before.voice or changes.conversion.effects != before.conversion.effects
        if needs_loading and self.is_preparing:
            raise ConfigurationError("another voice is being loaded; try again in a moment")
        if not needs_loading:
            self._stream.check(conversion)
        self._record(changes)
        self._apply_levels(changes.live)
        if needs_loading:
            self._prepare(values)
            changes = replace(changes, voice=before.voice, conversion=before.conversion)
        elif changes.conversion != before.conversion:
            self._stream.change(conversion)
        self._changes = changes

    def try_change(self, values: Mapping[str, Any]) -> None:
        """Change options like `change`; an error becomes the message of the status, and success removes it."""
        try:
            self._message = ""
            self.change(values)
        except RVCError as error:
            self._message = str(error)

    def _prepare(self, values: Mapping[str, Any]) -> None:
        """Load another voice or effects in a thread."""
        if values.get("voice", self._changes.voice) != self._changes.voice:
            values = {"speaker": None, **values}
        self._preparation = Thread(target=self._load_other, args=(self._changes.merged(values), values), daemon=True)
        self._preparation.start()

    def _load_other(self, changes: Changes, values: Mapping[str, Any]) -> None:
        assert changes.voice is not None
        try:
            with user_errors():
                converter = self._converter if changes.voice == self._changes.voice else self._load(changes.voice)
                plan = self._fastest_plan(converter, changes.conversion)
                stream = self._new_stream(converter, changes.conversion, plan.fabric)
        except RVCError as error:
            self._message = str(error)
        else:
            self._prepared = _Prepared(converter, stream, plan, values)

    @property
    def is_preparing(self) -> bool:
        """Whether another voice or effects are being loaded, or are about to fade in."""
        return self._prepared is not None or (self._preparation is not None and self._preparation.is_alive())

    def _apply_levels(self, live: LiveOptions) -> None:
        self._input_gain.target = amplitude(live.input_gain_db)
        self._output_gain.target = 0.0 if live.mute else amplitude(live.output_gain_db)
        self._bypass.target = float(live.bypass)
        self._denoiser.strength = live.input_noise_reduction
        self._gate.threshold_db = live.gate_db

    def _record(self, changes: Changes) -> None:
        """Start and end recordings."""
        for name, rate in (("record_input", self.input_rate), ("record_output", self.output_rate)):
            path, recorder = getattr(changes, name), self._recorders.get(name)
            if path == (recorder.path if recorder else None):
                continue
            started = None if path is None else Recorder(path, rate)
            if recorder is not None:
                self._recorders.pop(name).close()
            if started is not None:
                self._recorders[name] = started

    def _push_to(self, name: str, audio: np.ndarray) -> None:
        recorder = self._recorders.get(name)
        if recorder is not None:
            recorder.push(audio)
            if recorder.error:
                self._message = recorder.error


def _thread_counts(fabric: Fabric) -> list[int]:
    """Return the numbers of threads to choose from."""
    count = torch.get_num_threads()
    return sorted({1, count}) if fabric.device.type == "cpu" else [count]
