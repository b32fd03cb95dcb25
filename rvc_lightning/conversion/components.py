"""Content encoder and pitch extractor that a voice was trained with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rvc_lightning.content import HUBERT_NAMES, build_content_encoder, encoder_name
from rvc_lightning.content.base import ContentEncoder
from rvc_lightning.errors import AssetError, ConfigurationError, VoiceError
from rvc_lightning.io.hub import DownloadError
from rvc_lightning.pitch import DEFAULT_PITCH, build_pitch_extractor
from rvc_lightning.pitch.base import PitchTracker
from rvc_lightning.voice.rvc_format import CONTENT_DIMS
from rvc_lightning.voice.voice import Voice


def content_encoder_for(voice: Voice, path: str | Path | None) -> ContentEncoder:
    """Build the content encoder of `voice`, from the files at `path` if given.

    Raises:
        VoiceError: The encoder is unknown, or `path` does not contain its files.
        AssetError: Its files cannot be downloaded.
    """
    name, options = _stored_component(voice, "content", encoder_name(voice.content_encoder))
    if voice.config.content_dim == CONTENT_DIMS["v1"]:
        options = {"version": "v1"} | options
    if voice.content_layer is not None and name in HUBERT_NAMES:
        options["layer"] = voice.content_layer
    if path is not None:
        options["path"] = str(path)
    try:
        return build_content_encoder(name, **options)
    except (DownloadError, ConfigurationError) as error:
        # In training the same setting is content.path.
        reason = str(error).replace("content.path=", "content_path=", 1)
        if isinstance(error, DownloadError):
            reason = f"{error.problem} Or name the folder of its files: content_path=FOLDER"
        kind = AssetError if isinstance(error, DownloadError) else VoiceError
        raise kind(f"the voice requires the content encoder '{voice.content_encoder}': {reason}") from error


def pitch_extractor_for(voice: Voice) -> PitchTracker:
    """Build the pitch extractor of `voice`. Raises VoiceError if it is unknown."""
    name, options = _stored_component(voice, "pitch", DEFAULT_PITCH)
    try:
        return build_pitch_extractor(name, **options)
    except ConfigurationError as error:
        raise VoiceError(
            f"the voice was trained with the pitch extractor '{name}': {error}. Any other works: "
            f"pitch={DEFAULT_PITCH} on the command line, pitch=build_pitch_extractor('{DEFAULT_PITCH}') in Python"
        ) from error


def _stored_component(voice: Voice, component: str, default: str) -> tuple[str, dict[str, Any]]:
    """Return name and options of a component that a voice stores, without paths: a voice never names files to open."""
    entry = voice.training_info.get(component, {"name": default})
    entry = entry if isinstance(entry, Mapping) else {"name": entry}
    options = entry.get("options") or {}
    options = options if isinstance(options, Mapping) else {"options": options}
    return str(entry.get("name")), {str(key): value for key, value in options.items() if key != "path"}
