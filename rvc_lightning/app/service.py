"""What the page does when it converts: bounds on what is sent, voices that stay loaded, one file as the result."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import soundfile
from torch import Tensor, nn

from rvc_lightning.app.catalog import Stamp, VoiceCatalog
from rvc_lightning.audio.encode import check_writable, fitting_rate, write_audio
from rvc_lightning.audio.frames import FRAMES_PER_SECOND
from rvc_lightning.conversion.converter import VoiceConverter
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.errors import AudioError, ConfigurationError, OutOfMemoryError, RVCError
from rvc_lightning.models import Synthesizer
from rvc_lightning.models.memory import is_out_of_memory

DEFAULT_FORMAT = "wav"

_DECODED_SECONDS = re.compile(rb"out_time_us=(\d+)")


MakeConverter: TypeAlias = Callable[[Path, Path | None], VoiceConverter]
"""From the files of a voice and of its index."""

Report: TypeAlias = Callable[[float, str], None]
"""Told how far a conversion is, 0 to 1, and what it does."""


@dataclass(frozen=True)
class Limits:
    """What the page takes.

    Raises:
        ConfigurationError: A bound is not above 0.
    """

    most_seconds: float
    """Length of a recording."""
    most_megabytes: float
    """Size of an uploaded file."""
    most_waiting: int
    """Conversions that wait for their turn; more are sent away."""
    most_voices: int
    """Voices that stay loaded."""
    keep_minutes: float
    """How long recordings and results are kept."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
                raise ConfigurationError(f"{name}={value!r}: choose a number above 0")


class ConversionService:
    """Converts with the voices of a catalog, of which those last used stay loaded."""

    def __init__(self, catalog: VoiceCatalog, make_converter: MakeConverter, limits: Limits) -> None:
        self.catalog, self.limits = catalog, limits
        self._make_converter = make_converter
        self._stopped = False
        self._loaded: OrderedDict[tuple[Path, Stamp, Path | None, Stamp | None], VoiceConverter] = OrderedDict()

    def converter(self, name: str) -> VoiceConverter:
        """What converts to a voice of the catalog; loaded again where its files have changed.

        Raises:
            VoiceError: There is no such voice, or it is damaged.
            AssetError: What it was trained with cannot be fetched.
        """
        path, index = self.catalog.path(name), self.catalog.index(name)
        key = path, Stamp.of(path), index, None if index is None else Stamp.of(index)
        if key not in self._loaded:
            # First out, then in: never more in memory than there may be.
            for stale in [other for other in self._loaded if other[0] == path]:
                del self._loaded[stale]
            while len(self._loaded) >= self.limits.most_voices:
                self._loaded.popitem(last=False)
            self._loaded[key] = self._make_converter(path, index)
        self._loaded.move_to_end(key)
        return self._loaded[key]

    def convert(self, name: str, recording: Path, options: ConversionOptions, folder: Path, report: Report) -> Path:
        """Converts a recording to a voice of the catalog.

        Args:
            name: Of the voice.
            recording: A file.
            options: How.
            folder: Where the result is written, under the names of recording and voice.
            report: Is told how far it is.

        Returns:
            The file written.

        Raises:
            RVCError: In words for who sees the page: files of the server are named as they are named there.
        """
        try:
            return self._convert(name, recording, options, folder, report)
        except (RVCError, OSError) as error:
            names = {recording: recording.name, self.catalog.folder / name: name}
            if options.f0_file:
                names[Path(options.f0_file)] = Path(options.f0_file).name
            raise _in_their_words(error, names) from error
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemoryError("memory ran out: try a shorter recording, or another device") from error

    def stop(self) -> None:
        """Makes the conversion that is under way fail at its next chunk, and all later ones."""
        self._stopped = True

    def _convert(self, name: str, recording: Path, options: ConversionOptions, folder: Path, report: Report) -> Path:
        report(0.0, "Loading the voice")
        seconds = self._checked_seconds(recording)
        converter = self.converter(name)
        target = folder / f"{recording.stem}_{Path(name).stem}.{options.output_format or DEFAULT_FORMAT}"
        rate = options.output_sample_rate or fitting_rate(target.suffix, converter.voice.sample_rate)
        check_writable(target, rate)
        with _watched(converter.voice.synthesizer, seconds, self._go_on(report)):
            audio, rate = converter.convert(recording, replace(options, output_sample_rate=rate))
        write_audio(target, audio, rate)
        return target

    def _go_on(self, report: Report) -> Callable[[float], None]:
        def told(share: float) -> None:
            if self._stopped:
                raise RVCError("the page is being closed")
            report(share, "Converting")

        return told

    def _checked_seconds(self, recording: Path) -> float:
        """Length of a recording. Raises AudioError for one longer than is taken, before it takes memory."""
        seconds = seconds_of(recording, self.limits.most_seconds)
        if seconds > self.limits.most_seconds:
            raise AudioError(
                f"'{recording}' is longer than the {self.limits.most_seconds:g} seconds that this page takes; cut it, "
                "or use the command rvc_lightning.convert, which takes any length"
            )
        return seconds


@contextmanager
def _watched(synthesizer: Synthesizer, seconds: float, told: Callable[[float], None]) -> Iterator[None]:
    """Tells how much of so many seconds is made, after each layer; what `told` raises ends the conversion."""
    generator = synthesizer.generator
    inside = set(generator.modules())
    layers = sum(not any(module.children()) for module in inside)
    wanted, made, frames, done = max(1.0, seconds * FRAMES_PER_SECOND), 0, 0, 0

    def begin(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal made, frames, done
        made, frames, done = made + frames, inputs[0].shape[0] * inputs[0].shape[-1], 0

    def layer(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal done
        # One that is used twice counts twice, and the chunk is not over for that.
        done = min(done + 1, layers)
        told(min((made + frames * done / layers) / wanted, 1.0))

    def elsewhere(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        told(min((made + frames) / wanted, 1.0))

    handles = [generator.register_forward_pre_hook(begin), generator.register_forward_hook(elsewhere)]
    for module in synthesizer.modules():
        if not any(module.children()):
            handles.append(module.register_forward_hook(layer if module in inside else elsewhere))
    told(0.0)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def seconds_of(path: Path, most: float) -> float:
    """Length of a recording in seconds; what is longer than `most` is told from it, but not always how long it is.

    Gives 0 for what is no recording: whoever reads it says why.
    """
    try:
        return float(soundfile.info(path).duration)
    except (soundfile.LibsndfileError, TypeError, OSError):
        return _decoded_seconds(path, most + 1)


def _decoded_seconds(path: Path, most: float) -> float:
    """Length by decoding at most so much with ffmpeg, 0 without it: what headers say can be missing, or a lie."""
    program = shutil.which("ffmpeg")
    if program is None:
        return 0.0
    command = [program, "-v", "error", "-nostdin", "-protocol_whitelist", "file", "-t", str(most)]
    command += ["-i", f"file:{path.absolute()}", "-map", "0:a:0", "-f", "null", "-progress", "pipe:1", "-"]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return max((int(found) / 1e6 for found in _DECODED_SECONDS.findall(run.stdout)), default=0.0)


def _in_their_words(error: RVCError | OSError, names: dict[Path, str]) -> RVCError:
    message = str(error)
    for path, name in names.items():
        message = message.replace(str(path), name)
    return type(error)(message) if isinstance(error, RVCError) else RVCError(message)
