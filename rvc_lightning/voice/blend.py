"""A voice between two others (specification 1.5)."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from rvc_lightning.errors import ConfigurationError, VoiceError
from rvc_lightning.io.files import protect_inputs
from rvc_lightning.voice import rvc_format
from rvc_lightning.voice.rvc_format import STORED_SPEAKER_TABLE
from rvc_lightning.voice.voice import Voice, content_hash, finite_halves

log = logging.getLogger(__name__)


def blend_files(first: Path, second: Path, ratio: float, output: Path, name: str | None = None) -> Path:
    """Writes the blend of two voices, see `blend`; gives the path back.

    Raises:
        VoiceError: One cannot be read, or they cannot be blended.
        ConfigurationError: The ratio is out of range, or the output is one of the two.
    """
    protect_inputs(output, (first, second))
    voice = blend(Voice.load(first), Voice.load(second), ratio, name or output.stem)
    log.info("The blend has no index of its own; that of either voice can be tried with index=FILE")
    return voice.save(output)


def blend(first: Voice, second: Voice, ratio: float, name: str) -> Voice:
    """Ratio · first + (1 - ratio) · second, value by value, in float32 and stored as float16.

    Voices are compatible if they were trained from the same pretrained networks: same version, generator, sizes and
    content encoder. Of speaker tables of different length the shorter counts.

    Args:
        first: What ratio 1 gives; its configuration is kept.
        second: What ratio 0 gives.
        ratio: 0 to 1.
        name: Of the blend.

    Raises:
        VoiceError: They are of different kinds, or the result does not fit into half precision.
        ConfigurationError: The ratio is out of range.
    """
    if not 0 <= ratio <= 1:
        raise ConfigurationError(f"ratio={ratio}: choose a number from 0 (all of the second) to 1 (all of the first)")
    _check_compatible(first, second)
    both = [_same_names(voice) for voice in (first, second)]
    rows = min(len(weights[STORED_SPEAKER_TABLE]) for weights in both)
    mine, theirs = ({**weights, STORED_SPEAKER_TABLE: weights[STORED_SPEAKER_TABLE][:rows]} for weights in both)
    if difference := rvc_format.difference(mine, theirs):
        raise VoiceError(f"the second voice differs from the first in its tensors: {difference}")
    mixed = {key: ratio * tensor.float() + (1 - ratio) * theirs[key].float() for key, tensor in mine.items()}
    weights = finite_halves(mixed, "these voices cannot be blended at this ratio")
    return Voice.from_file_content({"weight": weights, **_entries(first, weights, ratio, name)})


def _check_compatible(first: Voice, second: Voice) -> None:
    """Raises VoiceError naming the first things in which two voices differ and must not."""
    mine, theirs = asdict(first.config), asdict(second.config)
    differing = [key for key in mine if key != "speaker_count" and mine[key] != theirs[key]]
    told = [f"{key} {mine[key]} and {theirs[key]}" for key in differing[:5]]
    encoders = [_content(voice) for voice in (first, second)]
    if encoders[0] != encoders[1]:
        # Features of different encoders have nothing in common: no ratio of the two can be spoken to.
        told.append(f"content encoder {encoders[0]} and {encoders[1]}")
    if told:
        raise VoiceError(f"these voices cannot be blended, they differ: {'; '.join(told)}")


def _content(voice: Voice) -> str:
    """The content encoder with its options, if it has any."""
    content = voice.own.get("content")
    options = content.get("options") if isinstance(content, dict) else None
    return f"{voice.content_encoder} {options}" if options else voice.content_encoder


def _same_names(voice: Voice) -> dict[str, Tensor]:
    """Stored tensors under the names of the format, whichever spelling of weight norm the file has."""
    return rvc_format.normal_names(voice.weights, voice.config)


def _entries(first: Voice, weights: dict[str, Tensor], ratio: float, name: str) -> dict[str, Any]:
    """The entries of the blend beside its weights, all of which are about the first voice's kind or about the blend."""
    vocoder, pitch_guided = rvc_format.vocoder_of(first.config)
    config = first.information.get("config") or rvc_format.config_to_list(first.config)
    entries = {
        "config": config,
        "sr": str(first.sample_rate),
        "f0": pitch_guided,
        "version": rvc_format.version_of(first.config),
        "info": f"Blend of two voices, {ratio:g} of the first.",
        "vocoder": vocoder,
        "embedder_model": first.content_encoder,
        "model_name": name,
        "content_hash": content_hash(weights),
    }
    return entries | ({rvc_format.OWN_ENTRY: first.own} if first.own else {})
