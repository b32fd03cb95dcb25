"""Converts raw audio from standard input to standard output: `… | python -m rvc_lightning.stream voice=… | …`."""

from __future__ import annotations

import logging
import os
import sys
from time import perf_counter
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from omegaconf import DictConfig

from rvc_lightning.cli.command import command
from rvc_lightning.config.validation import check_whole
from rvc_lightning.config.values import optional, required
from rvc_lightning.convert import index_of, options_of
from rvc_lightning.errors import AudioError, ConfigurationError, unknown_choice

if TYPE_CHECKING:
    from lightning import Fabric

    from rvc_lightning.conversion.streaming import StreamingConverter

log = logging.getLogger(__name__)

ENCODINGS: dict[str, np.dtype] = {"s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}
"""How raw samples are written, by the names that ffmpeg has for them."""

_READ_SECONDS = 0.02
_FULL_SCALE = 32768


@command("stream")
def main(config: DictConfig) -> None:
    """Reads the voice, then converts until the input ends."""
    voice_path = required(config, "voice", "the voice, a .pth file")
    if config.encoding not in ENCODINGS:
        raise unknown_choice("encoding", config.encoding, ENCODINGS)
    encoding = ENCODINGS[config.encoding]
    check_whole("input_sample_rate", config.input_sample_rate, 1)
    source, sink = _pipes()
    # Imported here so that --help and a mistake need not wait for them.
    from rvc_lightning.config.values import plain
    from rvc_lightning.conversion.converter import VoiceConverter
    from rvc_lightning.conversion.streaming import StreamingConverter, StreamLengths
    from rvc_lightning.pitch import chosen_pitch
    from rvc_lightning.training.trainer import set_up_torch
    from rvc_lightning.voice.voice import Voice

    set_up_torch(config)
    pitch = chosen_pitch(config.pitch)
    index = index_of(voice_path, optional(config, "index", "the voice's index, a file"))
    stream = StreamingConverter(
        VoiceConverter(
            Voice.load(voice_path),
            index,
            content_path=optional(config, "content_path", "the folder of the content encoder"),
            pitch=pitch,
        ),
        options_of(config),
        sample_rate=config.input_sample_rate,
        lengths=StreamLengths(**plain(config.stream)),
        fabric=_fabric(config),
    )
    log.info(
        "Mono %s, %d Hz in, %d Hz out, %.2f s late; waiting for audio",
        config.encoding, config.input_sample_rate, stream.sample_rate, stream.latency_seconds,
    )  # fmt: skip
    pump(stream, source, sink, encoding, config.input_sample_rate)


def pump(stream: StreamingConverter, source: BinaryIO, sink: BinaryIO, encoding: np.dtype, sample_rate: int) -> float:
    """Converts all of `source` to `sink`.

    Args:
        stream: A fresh one.
        source: Raw mono samples at `sample_rate` Hz.
        sink: Gets raw mono samples at the stream's own rate.
        encoding: Of the samples of both.
        sample_rate: Of the source, in Hz.

    Returns:
        Real-time factor: seconds of computation for a second of audio.

    Raises:
        AudioError: Nobody reads the sink any more, or the source holds NaN.
    """
    block_bytes = max(int(_READ_SECONDS * sample_rate), 1) * encoding.itemsize
    busy_seconds, samples = 0.0, 0
    while data := source.read(block_bytes):
        whole = len(data) // encoding.itemsize * encoding.itemsize
        if whole < len(data):
            log.warning("The last %d bytes are no whole sample and are left out", len(data) - whole)
        block = _decoded(np.frombuffer(data[:whole], encoding))
        started = perf_counter()
        converted = stream.push(block)
        busy_seconds += perf_counter() - started
        samples += len(block)
        _write(sink, _encoded(converted, encoding))
    _write(sink, _encoded(stream.finish(), encoding))
    seconds = samples / sample_rate
    factor = busy_seconds / max(seconds, 1e-9)
    log.info("Converted %.1f s, real-time factor %.2f, latency %.2f s", seconds, factor, stream.latency_seconds)
    if factor > 1:
        log.warning("That is too slow to be heard live: choose longer blocks, stream.block_seconds=1, or a GPU")
    return factor


def _decoded(samples: np.ndarray) -> np.ndarray:
    """Raw samples at full scale 1."""
    return samples.astype(np.float32) / (_FULL_SCALE if samples.dtype.kind == "i" else 1)


def _encoded(audio: np.ndarray, encoding: np.dtype) -> bytes:
    if encoding.kind == "i":
        audio = np.clip(np.round(audio * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1)
    return audio.astype(encoding).tobytes()


def _write(sink: BinaryIO, data: bytes) -> None:
    try:
        sink.write(data)
        sink.flush()
    except BrokenPipeError as error:
        # What is left in the buffer would be written at the end of the process, and fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sink.fileno())
        raise AudioError("nobody reads standard output any more: the program behind the pipe has ended") from error


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output. Raises ConfigurationError if one of them is a terminal."""
    for stream, name, example in ((sys.stdin, "input", "sox -d … | "), (sys.stdout, "output", " | sox … -d")):
        if stream.isatty():
            raise ConfigurationError(
                f"standard {name} is a terminal, and takes raw audio: put a pipe there, '{example}'"
            )
    return sys.stdin.buffer, sys.stdout.buffer


def _fabric(config: DictConfig) -> Fabric:
    """Device and precision as Lightning names them. Raises ConfigurationError for names that it refuses."""
    from lightning import Fabric
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from rvc_lightning.conversion.converter import PRECISIONS

    # The group `precision` is shared with training, where it belongs to the trainer.
    asked = {name: config.trainer[name] for name in ("accelerator", "devices", "precision")}
    if asked["precision"] not in PRECISIONS:
        raise unknown_choice("precision", asked["precision"], PRECISIONS)
    try:
        fabric = Fabric(**asked)
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        raise ConfigurationError(
            f"{', '.join(f'trainer.{key}={value}' for key, value in asked.items())}: {error}"
        ) from error
    if fabric.world_size > 1:
        raise ConfigurationError(f"trainer.devices={config.trainer.devices}: a stream is converted on one device")
    return fabric


if __name__ == "__main__":
    main()
