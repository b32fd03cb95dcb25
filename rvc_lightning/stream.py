"""Convert raw audio from standard input to standard output: `… | python -m rvc_lightning.stream voice=… | …`."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from omegaconf import DictConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command
from rvc_lightning.config.options import Settings, option
from rvc_lightning.config.values import plain
from rvc_lightning.conversion import options as conversion_options
from rvc_lightning.conversion.voice_settings import VoiceSettings
from rvc_lightning.errors import AudioError, ConfigurationError
from rvc_lightning.io.processes import is_closed_pipe

if TYPE_CHECKING:
    from rvc_lightning.live.engine import Engine

log = logging.getLogger(__name__)

resolvers.register()
conversion_options.register()

ENCODINGS: dict[str, np.dtype] = {"s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}
"""Encodings of raw samples, by their names in ffmpeg."""

_READ_SECONDS = 0.02
_FULL_SCALE = 32768


@dataclass(frozen=True)
class RawAudio(Settings):
    """Format of the audio on standard input and output."""

    input_sample_rate: int = option(help="sampling rate of the input", unit="Hz", min=8000, max=192_000)
    encoding: str = option(help="encoding of the samples", choices=tuple(ENCODINGS))


@command("stream")
def main(config: DictConfig) -> None:
    """Load the voice, then convert until the input ends."""
    audio, settings = RawAudio.from_config(config), plain(config)
    VoiceSettings.from_config(settings)
    source, sink = _pipes()
    # Imported here to keep --help and error messages quick.
    from rvc_lightning.live.build import build_engine

    engine = build_engine(settings, audio.input_sample_rate)
    log.info(
        "Input mono %s at %d Hz, output at %d Hz, latency %.2f s; waiting for audio",
        audio.encoding, audio.input_sample_rate, engine.output_rate, engine.latency_seconds,
    )  # fmt: skip
    pump(engine, source, sink, ENCODINGS[audio.encoding], audio.input_sample_rate)


def pump(engine: Engine, source: BinaryIO, sink: BinaryIO, encoding: np.dtype, sample_rate: int) -> float:
    """Convert all of `source` to `sink`.

    Args:
        engine: A new engine; its recordings are complete afterwards, also after an error or Ctrl-C.
        source: Source of raw mono samples at `sample_rate` Hz.
        sink: Destination of raw mono samples at the rate of the engine's output.
        encoding: Encoding of the samples of source and sink.
        sample_rate: Sampling rate of the source in Hz.

    Returns:
        Real-time factor: seconds of computation per second of audio; 0 for an empty source.

    Raises:
        AudioError: The sink is closed, or the source contains NaN.
    """
    block_bytes = max(int(_READ_SECONDS * sample_rate), 1) * encoding.itemsize
    busy_seconds, samples = 0.0, 0
    with contextlib.closing(engine):
        while data := source.read(block_bytes):
            whole = len(data) // encoding.itemsize * encoding.itemsize
            if whole < len(data):
                log.warning("Ignored the last %d bytes, less than a sample", len(data) - whole)
            block = _decoded(np.frombuffer(data[:whole], encoding))
            started = perf_counter()
            converted = engine.process(block)
            busy_seconds += perf_counter() - started
            samples += len(block)
            _write(sink, _encoded(converted, encoding))
        if not samples:
            log.warning("The input is empty")
            return 0.0
        _write(sink, _encoded(engine.finish(), encoding))
    seconds = samples / sample_rate
    factor = busy_seconds / seconds
    log.info("Converted %.1f s, real-time factor %.2f, latency %.2f s", seconds, factor, engine.latency_seconds)
    if factor > 1:
        log.warning("Slower than real time: use longer blocks, stream.block_seconds=1, or a GPU")
    return factor


def _decoded(samples: np.ndarray) -> np.ndarray:
    """Convert raw samples to float at full scale 1."""
    return samples.astype(np.float32) / (_FULL_SCALE if samples.dtype.kind == "i" else 1)


def _encoded(audio: np.ndarray, encoding: np.dtype) -> bytes:
    if encoding.kind == "i":
        audio = np.clip(np.round(audio * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1)
    return audio.astype(encoding).tobytes()


def _write(sink: BinaryIO, data: bytes) -> None:
    try:
        sink.write(data)
        sink.flush()
    except OSError as error:
        if not is_closed_pipe(error):
            raise
        # The rest of the buffer would be written at exit, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sink.fileno())
        raise AudioError("standard output is closed: the program that reads it has ended") from error


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return standard input and output. Raises ConfigurationError if one of them is closed or a terminal."""
    for stream, name, example in ((sys.stdin, "input", "sox -d … | "), (sys.stdout, "output", " | sox … -d")):
        # Python replaces streams that are closed when it starts by None.
        if stream is None or stream.closed or stream.isatty():
            raise ConfigurationError(
                f"standard {name} is closed or a terminal, but raw audio requires a pipe: '{example}'"
            )
    return sys.stdin.buffer, sys.stdout.buffer


if __name__ == "__main__":
    main()
