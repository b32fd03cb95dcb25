"""Conversion for the page: limits, a cache of voices, and errors without paths of the server."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor, nn

from rvc_lightning.app.catalog import Stamp, VoiceCatalog
from rvc_lightning.app.waiting import WaitingLine
from rvc_lightning.audio.decode import open_audio
from rvc_lightning.audio.encode import check_writable, fitting_rate, write_audio
from rvc_lightning.audio.frames import FRAMES_PER_SECOND
from rvc_lightning.config.options import Settings, option
from rvc_lightning.conversion.converter import VoiceConverter
from rvc_lightning.conversion.options import DEFAULT_FORMAT, ConversionOptions
from rvc_lightning.errors import BusyError, OutOfMemoryError, RVCError, TooLongError
from rvc_lightning.models.memory import is_out_of_memory

MakeConverter: TypeAlias = Callable[[Path, Path | None], VoiceConverter]
"""Builds a converter from the files of a voice and its index."""

Report: TypeAlias = Callable[[float, str], None]
"""Takes the progress of a conversion, 0 to 1, and its stage."""


@dataclass(frozen=True, kw_only=True)
class Limits(Settings, group="limits"):
    """Limits of the server; the defaults are in `conf/app.yaml`."""

    max_seconds: float = option(min=1)
    """Maximum length of a recording."""
    max_megabytes: float = option(min=0.1)
    """Maximum size of an uploaded file."""
    max_stored_megabytes: float = option(min=1)
    """Maximum size of all uploads and results."""
    max_waiting: int = option(min=1, max=30)
    """Maximum number of waiting conversions of the page, and of waiting jobs; further ones are rejected."""
    max_requests: int = option(min=1)
    """Maximum number of conversions over HTTP at a time, including those that wait; further ones are rejected."""
    max_voices: int = option(min=1)
    """Maximum number of voices in memory."""
    keep_minutes: float = option(min=0.01)
    """Time after which uploads and results are deleted."""


class ConversionService:
    """Convert with the voices of a catalog; the last used ones stay in memory."""

    def __init__(self, catalog: VoiceCatalog, make_converter: MakeConverter, limits: Limits) -> None:
        self.catalog, self.limits = catalog, limits
        self.line = WaitingLine(limits.max_waiting)
        self._make_converter = make_converter
        self._stopped = False
        self._loaded: OrderedDict[tuple[Path, Stamp, Path | None, Stamp | None], VoiceConverter] = OrderedDict()

    def converter(self, name: str) -> VoiceConverter:
        """Return the converter to a voice of the catalog; it is loaded again if its files have changed.

        Raises:
            VoiceError: The voice does not exist or is damaged.
            AssetError: Its content encoder or pitch extractor cannot be downloaded.
        """
        path, index = self.catalog.path(name), self.catalog.index(name)
        key = path, Stamp.of(path), index, None if index is None else Stamp.of(index)
        if key not in self._loaded:
            # Remove before loading, to stay within the memory limit.
            for stale in [other for other in self._loaded if other[0] == path]:
                del self._loaded[stale]
            while len(self._loaded) >= self.limits.max_voices:
                self._loaded.popitem(last=False)
            self._loaded[key] = self._make_converter(path, index)
        self._loaded.move_to_end(key)
        return self._loaded[key]

    def convert(self, name: str, recording: Path, options: ConversionOptions, folder: Path, report: Report) -> Path:
        """Convert a recording to a voice of the catalog.

        Args:
            name: Name of the voice.
            recording: Audio file.
            options: Conversion options.
            folder: Folder of the result, whose name combines those of recording and voice.
            report: Progress callback.

        Returns:
            The written file.

        Raises:
            RVCError: The conversion failed; the message names files as the page does.
        """
        names = {recording: recording.name, self.catalog.folder / name: name}
        if options.f0_file:
            names[Path(options.f0_file)] = Path(options.f0_file).name
        with explained(names):
            return self._convert(partial(self.converter, name), Path(name).stem, recording, options, folder, report)

    def try_checkpoint(
        self, run: Path, recording: Path, options: ConversionOptions, folder: Path, report: Report
    ) -> Path:
        """Convert a recording with the best checkpoint of a run, without an index; the rest is as in `convert`."""
        make = partial(self._make_converter, run, None)
        with explained({recording: recording.name}):
            return self._convert(make, run.parent.name, recording, options, folder, report)

    def stop(self) -> None:
        """Abort the running conversion and reject later ones."""
        self._stopped = True

    def _convert(
        self,
        load: Callable[[], VoiceConverter],
        name: str,
        recording: Path,
        options: ConversionOptions,
        folder: Path,
        report: Report,
    ) -> Path:
        def report_share(share: float) -> None:
            if self._stopped:
                raise BusyError("the server is shutting down")
            report(share, "Converting")

        report(0.0, "Loading the voice")
        seconds = self._checked_seconds(recording)
        converter = load()
        target = folder / f"{recording.stem}_{name}.{options.output_format or DEFAULT_FORMAT}"
        rate = options.output_sample_rate or fitting_rate(target.suffix, converter.voice.sample_rate)
        check_writable(target, rate)
        with _progress_hooks(converter.voice.synthesizer.generator, seconds, report_share):
            audio, rate = converter.convert(recording, replace(options, output_sample_rate=rate))
        write_audio(target, audio, rate)
        return target

    def _checked_seconds(self, recording: Path) -> float:
        """Return the length of a recording. Raises TooLongError; its header is not trusted."""
        samples = 0
        with open_audio(recording) as stream:
            for block in stream:
                samples += len(block)
                if samples > self.limits.max_seconds * stream.sample_rate:
                    raise TooLongError(
                        f"'{recording}' is longer than the limit of {self.limits.max_seconds:g} seconds; cut it, or "
                        "use the command rvc_lightning.convert, which has no limit"
                    )
            return samples / stream.sample_rate


@contextmanager
def _progress_hooks(generator: nn.Module, seconds: float, report: Callable[[float], None]) -> Iterator[None]:
    """Report the share of `seconds` that is done after each layer of the generator; `report` may raise to abort."""
    layers = [module for module in generator.modules() if not any(module.children())]
    total, finished, batch, current = max(1.0, seconds * FRAMES_PER_SECOND), 0.0, 0.0, 0.0

    def begin(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal batch, current
        batch, current = inputs[0].shape[0] * inputs[0].shape[-1], 0.0

    def advance(*_: Any) -> None:
        nonlocal current
        current = min(current + batch / len(layers), batch)
        report(min((finished + current) / total, 1.0))

    def finish(*_: Any) -> None:
        nonlocal finished
        finished += batch
        report(min(finished / total, 1.0))

    handles = [layer.register_forward_hook(advance) for layer in layers]
    handles += [generator.register_forward_pre_hook(begin), generator.register_forward_hook(finish)]
    report(0.0)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def explained(names: dict[Path, str]) -> Iterator[None]:
    """Turn errors into those that the page shows, with names for paths."""
    try:
        yield
    except (RVCError, OSError) as error:
        raise _without_folders(error, names) from error
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError("out of memory: try a shorter recording, or another device") from error


def _without_folders(error: RVCError | OSError, names: dict[Path, str]) -> RVCError:
    message = str(error)
    for path, name in names.items():
        message = message.replace(str(path), name)
    return type(error)(message) if isinstance(error, RVCError) else RVCError(message)
