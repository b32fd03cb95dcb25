"""File formats of RVC: the only module with positional configurations and the names of stored tensors.

SPECIFICATION.md, sections 0, 1, 2 and 4.10: weight norm, voice files, checkpoints and names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain, product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rvc_lightning.errors import VoiceError, unknown_choice
from rvc_lightning.models.config import SynthesizerConfig

CONTENT_DIMS = {"v1": 256, "v2": 768}
"""Channels of the content features of each version of the format."""

CONFIG_SEGMENT_FRAMES = 32
"""Position 1 of a stored configuration, independent of the trained segment (SPECIFICATION.md, section 1.2)."""

SPEAKER_TABLE = "speaker_embedding.weight"
"""Name of the speaker embedding in this project."""

STORED_SPEAKER_TABLE = "emb_g.weight"
"""Name of the speaker embedding in files."""

PROJECT_ENTRY = "rvc_lightning"
"""Entry of a voice file that only this project writes and reads (SPECIFICATION.md, section 1.1)."""

NAME_ENTRIES = ("model_name", "name")
"""Entries with the name of a voice: of most tools, and of a fork of the WebUI."""

LAYER_ENTRY = "embedder_output_layer"
"""Entry of a fork of the WebUI with the transformer layer of the content encoder."""

SPEAKERS_ENTRY = "speaker_info"
"""Entry of the WebUI with the names of the speakers (SPECIFICATION.md, section 1.1)."""

_POSTERIOR = "enc_q."
"""Part of the names of the posterior encoder, which only training needs; voices omit it."""

_CONTENT_DECODER = "content_decoder."
"""Part of the names of the content decoder, the same in files and here."""

_RENAMES: tuple[tuple[str, str], ...] = (
    # (prefix in files, prefix here)
    ("emb_g.", "speaker_embedding."),
    ("enc_p.emb_phone.", "text_encoder.content_projection."),
    ("enc_p.emb_pitch.", "text_encoder.pitch_embedding."),
    ("enc_p.encoder.", "text_encoder.transformer."),
    ("enc_p.proj.", "text_encoder.projection."),
    ("enc_q.pre.", "posterior_encoder.pre."),
    ("enc_q.enc.", "posterior_encoder.wavenet."),
    ("enc_q.proj.", "posterior_encoder.projection."),
    ("flow.flows.{2n}.enc.", "flow.couplings.{n}.wavenet."),
    ("flow.flows.{2n}.", "flow.couplings.{n}."),
)
"""Names outside the generator, in both directions; the first match wins. `{2n}` and, below, `{3i+b}` are numbers that
differ between the two: in files, reversals take every second position of the flow, and residual blocks are numbered
across stages."""

_GENERATOR_RENAMES: dict[str, tuple[tuple[str, str], ...]] = {
    "HiFi-GAN": (
        ("dec.m_source.l_linear.", "generator.source.merge."),
        ("dec.noise_convs.", "generator.source_convs."),
        ("dec.ups.", "generator.upsamplers."),
        ("dec.resblocks.{3i+b}.", "generator.blocks.{i}.{b}."),
    ),
    "MRF HiFi-GAN": (
        ("dec.m_source.l_linear.", "generator.source.merge."),
        ("dec.noise_convs.", "generator.source_convs."),
        ("dec.upsamples.", "generator.upsamplers."),
        ("dec.mrfs.{i}.{b}.layers.{n}.conv1.", "generator.blocks.{i}.{b}.convs1.{n}."),
        ("dec.mrfs.{i}.{b}.layers.{n}.conv2.", "generator.blocks.{i}.{b}.convs2.{n}."),
    ),
    "RefineGAN": (
        ("dec.m_source.merge.0.", "generator.source.merge."),
        ("dec.pre_conv.", "generator.source_conv."),
        ("dec.downsample_blocks.", "generator.source_convs."),
        ("dec.mel_conv.", "generator.latent_conv."),
        ("dec.upsample_conv_blocks.{i}.blocks.{b}.0.weight", "generator.refinements.{i}.blocks.{b}.0.gain"),
        ("dec.upsample_conv_blocks.{i}.blocks.{b}.2.weight", "generator.refinements.{i}.blocks.{b}.2.gain"),
        ("dec.upsample_conv_blocks.", "generator.refinements."),
    ),
    "Source-Filter": (),
}
"""Names of the generator's tensors by the file's name of the generator. No stored name has two meanings, so reading
does not depend on the generator."""

_REST = ("dec.", "generator.")
"""All other names of a generator are the same below this prefix."""

_WEIGHT_NORM = (
    (".weight_g", ".parametrizations.weight.original0"),
    (".weight_v", ".parametrizations.weight.original1"),
)


def _pattern(template: str) -> re.Pattern[str]:
    """Compile a pattern for names that start with `template`, with a number in place of each placeholder."""
    return re.compile(re.sub(r"\\\{.+?\\\}", r"(\\d{1,6})", re.escape(template)))


_FROM_FILE = [
    (_pattern(stored), stored, name)
    for stored, name in (*_RENAMES, *chain.from_iterable(_GENERATOR_RENAMES.values()), _REST)
]
_TO_FILE = {
    vocoder: [(_pattern(name), stored, name) for stored, name in (*_RENAMES, *lines, _REST)]
    for vocoder, lines in _GENERATOR_RENAMES.items()
}


def name_from_file(name: str, n_blocks: int = 3) -> str:
    """Return the name in this project of a stored tensor.

    Args:
        name: Name in a voice or in a checkpoint of the synthesizer or discriminator, in either spelling of weight norm.
        n_blocks: Residual blocks of each generator stage.
    """
    for old, new in _WEIGHT_NORM:
        name = name.removesuffix(old) + new if name.endswith(old) else name
    for pattern, stored, template in _FROM_FILE:
        if match := pattern.match(name):
            numbers = [int(group) for group in match.groups()]
            if "{3i+b}" in stored:
                numbers = list(divmod(numbers[0], n_blocks))
            elif "{2n}" in stored:
                numbers = [numbers[0] // 2]
            return _fill(template, numbers) + name[match.end() :]
    return name


def name_in_file(name: str, n_blocks: int = 3, vocoder: str = "HiFi-GAN") -> str:
    """Return the name in files of a tensor of this project; the inverse of `name_from_file`.

    Args:
        name: Name in the state dict of a synthesizer or discriminator.
        n_blocks: Residual blocks of each generator stage.
        vocoder: The file's name of the generator.
    """
    for old, new in _WEIGHT_NORM:
        name = name.removesuffix(new) + old if name.endswith(new) else name
    for pattern, stored, _ in _TO_FILE[vocoder]:
        if match := pattern.match(name):
            numbers = [int(group) for group in match.groups()]
            if "{3i+b}" in stored:
                numbers = [numbers[0] * n_blocks + numbers[1]]
            elif "{2n}" in stored:
                numbers = [2 * numbers[0]]
            return _fill(stored, numbers) + name[match.end() :]
    return name


def _fill(template: str, numbers: Sequence[int]) -> str:
    """Replace the placeholders of `template` by `numbers`."""
    values = iter(numbers)
    return re.sub(r"\{.+?\}", lambda _: str(next(values)), template)


def weights_from_file(weights: Mapping[str, Tensor], n_blocks: int = 3) -> dict[str, Tensor]:
    """Return stored tensors of a synthesizer or discriminator under the names of this project, as float32 copies."""
    return {name_from_file(name, n_blocks): tensor.to(torch.float32, copy=True) for name, tensor in weights.items()}


def weights_for_file(state: Mapping[str, Tensor], config: SynthesizerConfig | None = None) -> dict[str, Tensor]:
    """Return a state dict under the names of files, values unchanged.

    Args:
        state: State dict of a synthesizer or discriminator.
        config: Sizes of the synthesizer; None for a discriminator.
    """
    if config is None:
        return {name_in_file(name): tensor for name, tensor in state.items()}
    n_blocks, (vocoder, _) = len(config.resblock_kernel_sizes), vocoder_of(config)
    return {name_in_file(name, n_blocks, vocoder): tensor for name, tensor in state.items()}


def normalize_names(weights: Mapping[str, Tensor], config: SynthesizerConfig) -> dict[str, Tensor]:
    """Return stored tensors in the spelling of weight norm that every tool reads."""
    n_blocks = len(config.resblock_kernel_sizes)
    return weights_for_file({name_from_file(name, n_blocks): tensor for name, tensor in weights.items()}, config)


def speaker_names_of(entries: Mapping[str, Any], rows: int) -> list[str]:
    """Return the names of speakers by row; [] if the file has none (SPECIFICATION.md, section 1.1).

    The entry of this project has a name for each row. In `speaker_info`, rows between that have no name are named by
    their number.

    Args:
        entries: Entries of the file, without tensors.
        rows: Rows of the speaker table.
    """
    project = entries.get(PROJECT_ENTRY)
    names = project.get("speakers") if isinstance(project, Mapping) else None
    if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
        return list(names)[:rows]
    listed = entries.get(SPEAKERS_ENTRY)
    if isinstance(listed, Mapping):
        listed = [{"id": row, "name": name} for row, name in listed.items()]
    named: dict[int, str] = {}
    for item in listed if isinstance(listed, list | tuple) else ():
        row, name = (item.get("id"), item.get("name")) if isinstance(item, Mapping) else ("", "")
        if str(row).isascii() and str(row).isdecimal() and len(str(row)) <= 6 and isinstance(name, str) and name:
            named.setdefault(int(str(row)), name)
    named = {row: name for row, name in named.items() if row < rows}
    return [named.get(row, str(row)) for row in range(max(named, default=-1) + 1)]


def speaker_entries(entries: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return the entry that changes the names of the speakers: that of this project if the file has it."""
    project = entries.get(PROJECT_ENTRY)
    if isinstance(project, Mapping):
        return {PROJECT_ENTRY: {**project, "speakers": list(names)}}
    return {SPEAKERS_ENTRY: [{"id": row, "name": name} for row, name in enumerate(names)]}


def without_posterior(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return stored tensors of a synthesizer without its posterior encoder."""
    return {name: tensor for name, tensor in weights.items() if _POSTERIOR not in name}


def is_variational(weights: Mapping[str, Tensor]) -> bool:
    """Return whether stored tensors are those of a synthesizer with a random latent."""
    return not any(name.startswith(_CONTENT_DECODER) for name in weights)


def parse_rate(value: object) -> int:
    """Parse a sample rate in Hz: 40000, '40000' or '40k' (SPECIFICATION.md, section 1.3).

    Raises:
        ValueError, OverflowError: `value` has none of these spellings.
    """
    text = str(value).strip().lower()
    return round(float(text.removesuffix("k")) * (1000 if text.endswith("k") else 1))


_CONFIG_FIELDS = (
    None,  # spec_channels, derived from n_fft
    None,  # segment frames, constant
    "latent_channels",
    "hidden_channels",
    "filter_channels",
    "n_heads",
    "n_layers",
    "kernel_size",
    "dropout",
    None,  # kind of residual block, always "1"
    "resblock_kernel_sizes",
    "resblock_dilations",
    "upsample_rates",
    "initial_channels",
    "upsample_kernel_sizes",
    "speaker_count",
    "speaker_channels",
    "sample_rate",
)
"""The 18 positions of a stored configuration (SPECIFICATION.md, section 1.2)."""
_FORK_CONFIG_FIELDS = (*_CONFIG_FIELDS[:-1], "content_dim", "sample_rate")
"""The 19 positions of a fork of the WebUI, whose content features do not depend on the version."""
CONFIG_LENGTH = len(_CONFIG_FIELDS)
CONFIG_SPEAKERS = _CONFIG_FIELDS.index("speaker_count")
"""Position of the number of speakers."""

GENERATORS = {
    # (vocoder in files, pitch guidance) -> registered name of the generator
    ("HiFi-GAN", True): "hifigan_nsf",
    ("HiFi-GAN", False): "hifigan",
    ("MRF HiFi-GAN", True): "mrf_hifigan",
    ("RefineGAN", True): "refinegan",
    # Written by this project only.
    ("Source-Filter", True): "source_filter",
}


class VoiceKind(NamedTuple):
    """Properties of the networks that a file stores in addition to their sizes."""

    version: str
    """'v1' or 'v2'."""
    vocoder: str
    """The file's name of the generator."""
    pitch_guided: bool
    """Whether the generator takes a pitch contour."""

    def __str__(self) -> str:
        return f"{self.version} {self.vocoder} {'with' if self.pitch_guided else 'without'} pitch"


KINDS = [VoiceKind(version, *generator) for version, generator in product(CONTENT_DIMS, GENERATORS)]
"""Kinds of voices that are supported."""


def config_from_list(
    values: Sequence[Any], kind: VoiceKind, speaker_count: int, *, variational: bool = True
) -> SynthesizerConfig:
    """Return the sizes of a stored voice.

    The kind of residual block is not read: the names of the tensors differ.

    Args:
        values: The positional values of the file, 18 or 19. Further values, which some forks append, are ignored.
        kind: Version and generator.
        speaker_count: Rows of the speaker embedding, which override the stored count.
        variational: See `is_variational`.

    Raises:
        ConfigurationError: The kind is not supported, or the sizes are invalid.
        LookupError, TypeError, ValueError, ArithmeticError: A value is missing or of another type.
    """
    if kind not in KINDS:
        raise unknown_choice("kind of voice", kind, map(str, KINDS))
    is_fork = len(values) == len(_FORK_CONFIG_FIELDS) and values[-2] in CONTENT_DIMS.values()
    names = _FORK_CONFIG_FIELDS if is_fork else _CONFIG_FIELDS
    fields: dict[str, Any] = {"content_dim": CONTENT_DIMS[kind.version]}
    fields |= {name: value for name, value in zip(names, values, strict=False) if name}
    fields |= {
        "n_fft": 2 * (int(values[0]) - 1),
        "sample_rate": parse_rate(fields["sample_rate"]),
        "generator": GENERATORS[kind.vocoder, kind.pitch_guided],
        "speaker_count": speaker_count,
        "variational": variational,
        "dropout": float(fields["dropout"]),
    }
    return SynthesizerConfig(**fields)


_EXPERIMENT_FIELDS = (
    *("inter_channels", "hidden_channels", "filter_channels", "n_heads", "n_layers", "kernel_size", "p_dropout"),
    *("resblock", "resblock_kernel_sizes", "resblock_dilation_sizes", "upsample_rates", "upsample_initial_channel"),
    *("upsample_kernel_sizes", "spk_embed_dim", "gin_channels"),
)
"""Keys of the block `model` in an experiment's config.json, in the order of the positions."""


def config_of_experiment(blocks: Mapping[str, Any]) -> list[Any]:
    """Return the 18 positional values of an experiment's `config.json` (SPECIFICATION.md, section 3.2).

    Raises:
        LookupError, TypeError, ValueError, ArithmeticError: A value is missing or of another type.
    """
    data, model = blocks["data"], blocks["model"]
    # The WebUI writes sampling_rate.
    rate = data["sample_rate"] if "sample_rate" in data else data["sampling_rate"]
    stored = [model[name] for name in _EXPERIMENT_FIELDS]
    return [int(data["filter_length"]) // 2 + 1, CONFIG_SEGMENT_FRAMES, *stored, parse_rate(rate)]


def config_to_list(config: SynthesizerConfig) -> list[Any]:
    """Return the 18 positional values that files store for `config`."""
    fixed = iter((config.spec_channels, CONFIG_SEGMENT_FRAMES, "1"))
    return [getattr(config, name) if name else next(fixed) for name in _CONFIG_FIELDS]


def vocoder_of(config: SynthesizerConfig) -> tuple[str, bool]:
    """Return the file's name of the generator of `config` and whether it takes a pitch contour."""
    return next(key for key, name in GENERATORS.items() if name == config.generator)


def version_of(config: SynthesizerConfig) -> str:
    """Return 'v1' or 'v2', which depends on the content features.

    Raises:
        VoiceError: The features have neither 256 nor 768 channels.
    """
    for version, dim in CONTENT_DIMS.items():
        if config.content_dim == dim:
            return version
    supported = " and ".join(f"{dim} ({version})" for version, dim in CONTENT_DIMS.items())
    raise VoiceError(f"content features have {config.content_dim} channels; the format supports {supported}")
