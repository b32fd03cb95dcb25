"""The weighted mean of two voices (SPECIFICATION.md, section 1.5)."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from rvc_lightning.errors import ConfigurationError, VoiceError
from rvc_lightning.voice import rvc_format
from rvc_lightning.voice.rvc_format import STORED_SPEAKER_TABLE
from rvc_lightning.voice.voice import Voice, content_hash, to_half

log = logging.getLogger(__name__)


def blend_files(first: Path, second: Path, ratio: float, output: Path, name: str | None = None) -> Path:
    """Write the blend of two voices, see `blend`; return the path.

    Args:
        first: The voice of ratio 1.
        second: The voice of ratio 0.
        ratio: 0 to 1.
        output: The voice to write.
        name: Name of the blend; by default that of the output.

    Raises:
        VoiceError: A voice cannot be read, or they cannot be blended.
        ConfigurationError: The output exists.
    """
    if output.exists():
        raise ConfigurationError(f"output: '{output}' exists; choose another name, or delete that voice first")
    voice = blend(Voice.load(first), Voice.load(second), ratio, name or output.stem)
    log.info("The blend has no index; try that of either voice with index=FILE")
    return voice.save(output)


def blend(first: Voice, second: Voice, ratio: float, name: str) -> Voice:
    """Return ratio · first + (1 - ratio) · second, in half precision.

    Both voices must have the same version, generator, sizes and content encoder. The longer speaker table is truncated.

    Args:
        first: The voice of ratio 1; its configuration is kept.
        second: The voice of ratio 0.
        ratio: 0 to 1.
        name: Name of the blend.

    Raises:
        VoiceError: The ratio is out of range, the voices are of different kinds, or the result is not finite in half
            precision.
    """
    problems = _differences(first, second)
    if not 0 <= ratio <= 1:
        problems.append(f"ratio={ratio} is not between 0 (only the second) and 1 (only the first)")
    if problems:
        raise VoiceError(f"these voices cannot be blended: {'; '.join(problems)}")
    a, b = (rvc_format.normalize_names(voice.weights, voice.config) for voice in (first, second))
    rows = min(len(a[STORED_SPEAKER_TABLE]), len(b[STORED_SPEAKER_TABLE]))
    a, b = ({**weights, STORED_SPEAKER_TABLE: weights[STORED_SPEAKER_TABLE][:rows]} for weights in (a, b))
    mixed = {key: ratio * tensor.float() + (1 - ratio) * b[key].float() for key, tensor in a.items()}
    weights = to_half(mixed)
    return Voice.from_file_content({"weight": weights, **_entries(first, weights, ratio, name)})


def _differences(first: Voice, second: Voice) -> list[str]:
    """Return the first differences in sizes and content encoder."""
    a, b = asdict(first.config), asdict(second.config)
    differences = [f"{key} {a[key]} and {b[key]}" for key in a if key != "speaker_count" and a[key] != b[key]][:5]
    if _encoder(first) != _encoder(second):
        # Features of different encoders have nothing in common.
        differences.append(f"content encoder {_encoder(first)} and {_encoder(second)}")
    return differences


def _encoder(voice: Voice) -> str:
    """Return the content encoder with its options and layer."""
    content, layer = voice.training_info.get("content"), voice.content_layer
    options = content.get("options") if isinstance(content, dict) else None
    return " ".join(
        [voice.content_encoder, *([str(options)] if options else []), *([f"layer {layer}"] if layer else [])]
    )


def _entries(first: Voice, weights: dict[str, Tensor], ratio: float, name: str) -> dict[str, Any]:
    vocoder, pitch_guided = rvc_format.vocoder_of(first.config)
    entries = {
        "config": first.information.get("config") or rvc_format.config_to_list(first.config),
        "sr": str(first.sample_rate),
        "f0": pitch_guided,
        "version": rvc_format.version_of(first.config),
        "info": f"Blend of two voices, {ratio:g} of the first.",
        "vocoder": vocoder,
        "embedder_model": first.content_encoder,
        "model_name": name,
        "content_hash": content_hash(weights),
    }
    kept = (rvc_format.PROJECT_ENTRY, rvc_format.LAYER_ENTRY, rvc_format.SPEAKERS_ENTRY)
    return entries | {key: first.entries[key] for key in kept if first.entries.get(key)}
