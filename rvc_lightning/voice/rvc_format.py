"""The file formats of RVC: the one place that knows positional configurations and old weight names.

Specification sections 0 (weight norm), 1 (voice files), 2 (checkpoints), 4.10 (names).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from rvc_lightning.errors import VoiceError
from rvc_lightning.models.config import SynthesizerConfig

CONTENT_DIMS = {"v1": 256, "v2": 768}
"""Channels of the content features of each version of the format."""

CONFIG_SEGMENT_FRAMES = 32
"""Second entry of a stored configuration: always this number, whatever was trained (defect T16 of the peers)."""

SPEAKER_TABLE = "speaker_embedding.weight"
"""Our name of the table of speaker codes."""

STORED_SPEAKER_TABLE = "emb_g.weight"
"""The same table in files."""

OWN_ENTRY = "rvc_lightning"
"""Entry of a file for what only this project tells of a voice; other tools pass it over."""

POSTERIOR_PREFIX = "enc_q."
"""Tensors that voices leave out: only training needs them."""

_RENAMES: tuple[tuple[str, str], ...] = (
    # (name in files, name here); a trailing dot marks a prefix of everything below it
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
"""Names outside the generator. One table for both directions; the first line that fits wins. `{2n}` and, below,
`{3i+b}` are positions that files count otherwise: reversals of the flow take every second place, and residual blocks
are numbered through."""

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
"""Names of the generator's tensors by what files call the generator. No name of a file means different things in two of
them, so reading needs no choice."""

_REST = ("dec.", "generator.")
"""Whatever else is in a generator is called the same."""

_WEIGHT_NORM = (
    (".weight_g", ".parametrizations.weight.original0"),
    (".weight_v", ".parametrizations.weight.original1"),
)


def _pattern(template: str) -> re.Pattern[str]:
    """Matches names that begin with `template`, its placeholders being numbers."""
    escaped = re.escape(template)
    return re.compile(re.sub(r"\\\{.+?\\\}", r"(\\d+)", escaped))


_TO_HERE = [
    (_pattern(theirs), theirs, ours)
    for theirs, ours in (*_RENAMES, *chain.from_iterable(_GENERATOR_RENAMES.values()), _REST)
]
_TO_FILE = {
    vocoder: [(_pattern(ours), theirs, ours) for theirs, ours in (*_RENAMES, *lines, _REST)]
    for vocoder, lines in _GENERATOR_RENAMES.items()
}


def name_from_file(name: str, n_blocks: int = 3) -> str:
    """Our name of the tensor that files call `name`; either spelling of weight norm is understood.

    Args:
        name: As in the file, a voice's, a checkpoint's of the generator or of the discriminator.
        n_blocks: Residual blocks of one generator stage.
    """
    for old, new in _WEIGHT_NORM:
        name = name.removesuffix(old) + new if name.endswith(old) else name
    for pattern, theirs, ours in _TO_HERE:
        if match := pattern.match(name):
            numbers = [int(group) for group in match.groups()]
            if "{3i+b}" in theirs:
                numbers = list(divmod(numbers[0], n_blocks))
            elif "{2n}" in theirs:
                numbers = [numbers[0] // 2]
            return _fill(ours, numbers) + name[match.end() :]
    return name


def name_in_file(name: str, n_blocks: int = 3, vocoder: str = "HiFi-GAN") -> str:
    """The name under which files store our tensor `name`; the inverse of `name_from_file`.

    Args:
        name: As in the state dict of a synthesizer or of a discriminator.
        n_blocks: Residual blocks of one generator stage.
        vocoder: What files call the generator.
    """
    for old, new in _WEIGHT_NORM:
        name = name.removesuffix(new) + old if name.endswith(new) else name
    for pattern, theirs, _ in _TO_FILE[vocoder]:
        if match := pattern.match(name):
            numbers = [int(group) for group in match.groups()]
            if "{3i+b}" in theirs:
                numbers = [numbers[0] * n_blocks + numbers[1]]
            elif "{2n}" in theirs:
                numbers = [2 * numbers[0]]
            return _fill(theirs, numbers) + name[match.end() :]
    return name


def _fill(template: str, numbers: Sequence[int]) -> str:
    """Puts `numbers` into the placeholders of `template`."""
    values = iter(numbers)
    return re.sub(r"\{.+?\}", lambda _: str(next(values)), template)


def weights_from_file(weights: Mapping[str, Tensor], n_blocks: int = 3) -> dict[str, Tensor]:
    """Stored tensors of a synthesizer under our names, as float32 copies."""
    return {name_from_file(name, n_blocks): tensor.to(torch.float32, copy=True) for name, tensor in weights.items()}


def weights_for_file(state: Mapping[str, Tensor], config: SynthesizerConfig) -> dict[str, Tensor]:
    """Our tensors of the synthesizer of that configuration under the names of the files, values untouched."""
    n_blocks, (vocoder, _) = len(config.resblock_kernel_sizes), vocoder_of(config)
    return {name_in_file(name, n_blocks, vocoder): tensor for name, tensor in state.items()}


def normal_names(weights: Mapping[str, Tensor], config: SynthesizerConfig) -> dict[str, Tensor]:
    """Stored tensors under the names that every tool reads, whichever spelling of weight norm they have."""
    n_blocks = len(config.resblock_kernel_sizes)
    return weights_for_file({name_from_file(name, n_blocks): tensor for name, tensor in weights.items()}, config)


def discriminator_weights_from_file(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Stored tensors of a discriminator (specification 2 and 5) under our names, as float32 copies."""
    return weights_from_file(weights)


def discriminator_weights_for_file(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors of a discriminator under the names of the files, values untouched."""
    return {name_in_file(name): tensor for name, tensor in state.items()}


def parse_rate(value: object) -> int:
    """A sampling rate in Hz from any of its spellings: 40000, '40k', '40000' (specification 1.3).

    Raises:
        VoiceError: It is none of these.
    """
    text = str(value).strip().lower()
    digits, factor = (text[:-1], 1000) if text.endswith("k") else (text, 1)
    if not digits.isdigit():
        raise VoiceError(f"'{value}' is no sampling rate; expected a number such as 40000 or '40k'")
    return int(digits) * factor


_CONFIG_FIELDS = (
    None,  # spec_channels, from n_fft
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
"""The 18 positions of a stored configuration (specification 1.2)."""

GENERATORS = {
    # (vocoder in files, guided by pitch) -> name of the generator here
    ("HiFi-GAN", True): "hifigan_nsf",
    ("HiFi-GAN", False): "hifigan",
    ("MRF HiFi-GAN", True): "mrf_hifigan",
    ("RefineGAN", True): "refinegan",
    # Ours: other tools do not know it.
    ("Source-Filter", True): "source_filter",
}
"""One table for both directions."""


def config_from_list(
    values: Sequence[Any], *, content_dim: int, vocoder: str, pitch_guided: bool, speaker_count: int
) -> SynthesizerConfig:
    """The sizes of a stored voice.

    Args:
        values: The 18 positional values of the file.
        content_dim: Channels of its content features.
        vocoder: The file's name of the generator.
        pitch_guided: Whether the voice follows pitch.
        speaker_count: Rows of its speaker table, which overrule the stored count.

    Raises:
        VoiceError: The list has another length, a residual block of another kind or an unknown generator.
    """
    if len(values) != len(_CONFIG_FIELDS):
        raise VoiceError(f"its configuration has {len(values)} values where the format has {len(_CONFIG_FIELDS)}")
    if str(values[9]) != "1":
        raise VoiceError(f"its residual blocks are of kind '{values[9]}'; only kind '1' exists in published voices")
    if (vocoder, pitch_guided) not in GENERATORS:
        known = sorted(f"{name} {'with' if pitch else 'without'} pitch" for name, pitch in GENERATORS)
        asked = f"{vocoder} {'with' if pitch_guided else 'without'} pitch"
        raise VoiceError(f"its generator is '{asked}'; this version reads: {', '.join(known)}")
    fields = {name: value for name, value in zip(_CONFIG_FIELDS, values, strict=True) if name}
    fields |= {
        "n_fft": 2 * (int(values[0]) - 1),
        "sample_rate": parse_rate(values[-1]),
        "content_dim": content_dim,
        "generator": GENERATORS[vocoder, pitch_guided],
        "speaker_count": speaker_count,
        "dropout": float(values[8]),
    }
    return SynthesizerConfig(**fields)


_EXPERIMENT_FIELDS = (
    *("inter_channels", "hidden_channels", "filter_channels", "n_heads", "n_layers", "kernel_size", "p_dropout"),
    *("resblock", "resblock_kernel_sizes", "resblock_dilation_sizes", "upsample_rates", "upsample_initial_channel"),
    *("upsample_kernel_sizes", "spk_embed_dim", "gin_channels"),
)
"""Block `model` of an experiment's config.json, in the order of the positions."""


def config_of_experiment(blocks: Mapping[str, Any]) -> list[Any]:
    """The 18 positional values of an experiment's `config.json` (specification 3.2).

    Raises:
        VoiceError: It lacks a value.
    """
    try:
        data, model = blocks["data"], blocks["model"]
        # The tools spell the rate's name in two ways.
        rate = data["sample_rate"] if "sample_rate" in data else data["sampling_rate"]
        stored = [model[name] for name in _EXPERIMENT_FIELDS]
        return [int(data["filter_length"]) // 2 + 1, CONFIG_SEGMENT_FRAMES, *stored, parse_rate(rate)]
    except (KeyError, TypeError, ValueError) as error:
        raise VoiceError(f"config.json is not that of an RVC experiment: it lacks {error}") from error


def config_to_list(config: SynthesizerConfig) -> list[Any]:
    """The 18 positional values that files store for `config`."""
    fixed = iter((config.spec_channels, CONFIG_SEGMENT_FRAMES, "1"))
    return [getattr(config, name) if name else next(fixed) for name in _CONFIG_FIELDS]


def vocoder_of(config: SynthesizerConfig) -> tuple[str, bool]:
    """What files call the generator of `config`, and whether it is guided by pitch."""
    return next(key for key, name in GENERATORS.items() if name == config.generator)


def version_of(config: SynthesizerConfig) -> str:
    """'v1' or 'v2', which the content features decide.

    Raises:
        VoiceError: The features have neither 256 nor 768 channels, so no other tool could read the voice.
    """
    for version, dim in CONTENT_DIMS.items():
        if config.content_dim == dim:
            return version
    raise VoiceError(f"content features of {config.content_dim} channels fit no version of the format: {CONTENT_DIMS}")


def difference(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], limit: int = 5) -> str:
    """What keeps `found` from being loaded as `expected`: first missing, unexpected and misshapen names, or ''."""
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    shapes = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    kinds = (("missing", missing), ("unexpected", extra), ("of another shape", shapes))
    return "; ".join(f"{len(names)} {kind}: {_some(names, limit)}" for kind, names in kinds if names)


def _some(names: Iterable[str], limit: int) -> str:
    names = list(names)
    return ", ".join(names[:limit]) + (", …" if len(names) > limit else "")
