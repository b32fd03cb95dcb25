"""The layouts in which RVC tools write the same voice (SPECIFICATION.md, sections 1.1 to 1.4)."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rvc_lightning.errors import VoiceError
from rvc_lightning.io.files import protect_inputs
from rvc_lightning.voice import rvc_format
from rvc_lightning.voice.entries import as_count, as_text
from rvc_lightning.voice.extraction import extract_voice
from rvc_lightning.voice.voice import Voice, content_hash, read_voice_file, to_half

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Tool:
    """Generators and content encoders that a tool supports, by their names in files."""

    name: str
    generators: tuple[str, ...]
    encoders: tuple[str, ...]


_TOOLS = {
    "applio": _Tool(
        "Applio",
        ("HiFi-GAN", "MRF HiFi-GAN", "RefineGAN"),
        ("contentvec", "spin", "spin-v2", "chinese-hubert-base", "japanese-hubert-base", "korean-hubert-base"),
    ),
    "webui": _Tool("the WebUI", ("HiFi-GAN",), ("contentvec",)),
}
LAYOUTS = tuple(_TOOLS)
"""'applio' is also the layout of Ultimate RVC, 'webui' that of RVC-Project and its forks."""


def convert_layout(source: Path, output: Path, layout: str, config: Path | None = None) -> Path:
    """Write a voice, or the voice in a checkpoint `G_….pth`, in the layout of a tool; return the path.

    Args:
        source: A voice in any layout, or a training checkpoint of the generator.
        output: The voice to write.
        layout: One of `LAYOUTS`.
        config: The `config.json` of the experiment of a checkpoint; by default the one beside it.

    Raises:
        VoiceError: The source is damaged or of another kind, or the tool does not support its generator.
        ConfigurationError: The output is the source.
    """
    protect_inputs(output, (source,) if config is None else (source, config))
    content = read_voice_file(source, "voice or checkpoint")
    if "model" in content and "weight" not in content:
        voice = extract_voice(source, content, config)
    else:
        voice = Voice.load(source)
    return in_layout(voice, layout, output.stem).save(output)


def in_layout(voice: Voice, layout: str, name: str) -> Voice:
    """Return the same voice with names, types and entries as a tool writes them.

    Other entries are kept. Unknown facts (dates, durations) are omitted. A content encoder that the tool lacks causes a
    warning.

    Args:
        voice: The voice.
        layout: One of `LAYOUTS`.
        name: Name for a voice without one.

    Raises:
        VoiceError: The tool does not support the generator.
    """
    _check_support(voice, _TOOLS[layout])
    weights = to_half(rvc_format.normalize_names(voice.weights, voice.config))
    entries = voice.information | {
        "config": rvc_format.config_to_list(voice.config),
        "version": rvc_format.version_of(voice.config),
    }
    if "content_hash" in entries:
        entries["content_hash"] = content_hash(weights)
    entries |= _applio_entries(voice, name) if layout == "applio" else _webui_entries(voice)
    return Voice.from_file_content({"weight": weights, **entries})


def _check_support(voice: Voice, tool: _Tool) -> None:
    """Raise VoiceError for a generator that the tool lacks; only warn of a content encoder, which forks may have."""
    vocoder, _ = rvc_format.vocoder_of(voice.config)
    if vocoder not in tool.generators:
        raise VoiceError(
            f"the generator of this voice is {vocoder}, but {tool.name} supports only {', '.join(tool.generators)}; "
            "train a voice for it with generator=hifigan_nsf"
        )
    if voice.content_encoder not in tool.encoders:
        log.warning(
            "This voice requires the content encoder '%s', which %s lacks: with another one it produces noise. Train a "
            "voice for it with content=%s",
            voice.content_encoder,
            tool.name,
            tool.encoders[0],
        )


def _applio_entries(voice: Voice, name: str) -> dict[str, Any]:
    vocoder, pitch_guided = rvc_format.vocoder_of(voice.config)
    epoch = re.fullmatch(r"([0-9]{1,9})epoch", as_text(voice.entries.get("info")) or "")
    defaults = {
        "model_name": name,
        "author": "",
        "speakers_id": voice.config.speaker_count,
        **({"epoch": int(epoch[1])} if epoch else {}),
    }
    missing = {key: value for key, value in defaults.items() if voice.information.get(key) is None}
    return {
        "f0": pitch_guided,
        "sr": voice.sample_rate,
        "vocoder": vocoder,
        "embedder_model": voice.content_encoder,
        **missing,
    }


def _webui_entries(voice: Voice) -> dict[str, Any]:
    epoch = as_count(voice.entries.get("epoch"))
    info = as_text(voice.entries.get("info")) or ("" if epoch is None else f"{epoch}epoch")
    names = rvc_format.speaker_entries({}, voice.speaker_names) if voice.speaker_names else {}
    return {"f0": int(voice.pitch_guided), "sr": f"{voice.sample_rate / 1000:g}k", "info": info, **names}
