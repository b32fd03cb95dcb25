"""Separation by the networks of pymss-core (MIT): BS-RoFormer, Mel-Band RoFormer, MDX23C and SCNet.

Published models are a checkpoint and a YAML file with the sizes of the network. Checkpoints are read as untrusted
files; the YAML file names one of the networks of the package.

Sources: Lu et al. 2023, "Music source separation with Band-Split RoPE Transformer"; Wang et al. 2023, "Mel-Band
RoFormer for music source separation".

Legend: N samples, W samples of a window, C channels of the network, S sources of the network.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Fabric
from torch import Tensor, nn

from rvc_lightning.audio.stages import Chain, PerChannel, Resampler, Stage
from rvc_lightning.config.options import Settings, option
from rvc_lightning.errors import AssetError, ConfigurationError, VoiceError, one_line
from rvc_lightning.io.files import digest
from rvc_lightning.io.hub import fetch, known_files
from rvc_lightning.io.names import home_path
from rvc_lightning.io.packages import import_extra
from rvc_lightning.io.pickles import read_pickle
from rvc_lightning.separation.base import PARTS, Separator
from rvc_lightning.separation.windows import OverlappingWindows

STEMS: Mapping[str, tuple[str, ...]] = {
    "vocals": ("vocals",),
    "lead": ("lead", "vocals", "karaoke"),
    "dry": ("dry", "noreverb", "no reverb"),
}
"""Names of each part in models; case is ignored."""

_LAYER_OF_MASKS = re.compile(r"mask_estimators\.0\.to_freqs\.0\.0\.\d+\.weight")
_CHANNELS = 2


@dataclass(frozen=True, kw_only=True)
class ModelSettings(Settings):
    """Model of one part."""

    path: str | None = option(None, "checkpoint, with its .yaml of the same name beside it; null is the hub's")
    stem: str | None = option(None, "name of the part in the model; null finds it")


class PymssSeparator(Separator):
    """Networks of pymss-core, one for each part."""

    name = "pymss"

    def __init__(
        self, fabric: Fabric, vocals: Mapping[str, Any], lead: Mapping[str, Any], dry: Mapping[str, Any]
    ) -> None:
        """Check the settings of the models.

        Args:
            fabric: Device of the networks.
            vocals: Values of `ModelSettings` for the vocals.
            lead: Those for the lead.
            dry: Those for the dry lead.

        Raises:
            ConfigurationError: A setting is invalid, or the package pymss-core is missing.
        """
        self.check_installed()
        self._fabric = fabric
        chosen = zip(PARTS, (vocals, lead, dry), strict=True)
        self._settings = {part: ModelSettings.from_values(values) for part, values in chosen}
        self._identities: dict[str, str] = {}
        self._models: dict[str, _Model] = {}

    @staticmethod
    def check_installed() -> None:
        """See `Separator`."""
        _import_core()

    def identity(self, part: str) -> str:
        """See `Separator`."""
        if part not in self._identities:
            stem = self._settings[part].stem or ""
            self._identities[part] = " ".join([*map(digest, self._files(part)), stem])
        return self._identities[part]

    def extract(self, part: str, blocks: Iterable[np.ndarray], sample_rate: int) -> Iterator[np.ndarray]:
        """See `Separator`."""
        if part not in self._models:
            self._models[part] = self._load(part)
        model = self._models[part]
        window = OverlappingWindows(partial(model, self._fabric), _CHANNELS, model.window_samples, model.step_samples)
        stages = _resamplers(sample_rate, model.sample_rate), window, _resamplers(model.sample_rate, sample_rate)
        missing, chain = 0, Chain(stages)
        for block in blocks:
            ready = chain.push(block)
            missing += len(block) - len(ready)
            yield ready
        # Resampling rounds lengths up.
        yield chain.finish()[:missing]

    def _files(self, part: str) -> tuple[Path, Path]:
        """Return the checkpoint and the YAML file of a part, after downloading them if needed."""
        if chosen := self._settings[part].path:
            path = home_path(chosen)
            files = path, path.with_suffix(".yaml")
            for file in files:
                if not file.is_file():
                    raise AssetError(
                        f"separator.{part}.path={chosen}: '{file}' does not exist; name a checkpoint with its .yaml of "
                        "the same name beside it"
                    )
            return files
        alternative = f"name another model: separator.{part}.path=FILE.ckpt, with FILE.yaml beside it"
        known = known_files()
        model, config = (fetch(known[f"separation/{part}/{file}"], alternative) for file in ("model", "config"))
        return model, config

    def _load(self, part: str) -> _Model:
        """Load the model of a part. Raises AssetError."""
        path, config_path = self._files(part)
        try:
            return _load_model(path, config_path, self._settings[part].stem, STEMS[part], self._fabric)
        except _UNUSABLE as error:
            # torch lists missing and unexpected tensors on several lines.
            raise AssetError(f"separator.{part}: '{path}' cannot be used: {one_line(error)}") from error


_UNUSABLE = (
    *(VoiceError, ConfigurationError, OSError, LookupError, AttributeError),
    *(TypeError, ValueError, RuntimeError, AssertionError),
)
"""Errors of the package for files that are damaged, do not belong together, or contain another network."""


@dataclass(frozen=True)
class _Model:
    """A network, and which part of its output is extracted."""

    network: nn.Module
    """[batch, C, W] -> [batch, S, C, W], or [batch, C, W] if S is 1."""
    sample_rate: int
    window_samples: int
    step_samples: int
    is_stereo: bool
    """Whether C is 2; a network for one channel gets both as a batch."""
    source: int
    """Index of the source, 0 to S - 1."""
    is_remainder: bool
    """Whether the part is what remains without the source."""

    @torch.inference_mode()
    def __call__(self, fabric: Fabric, window: np.ndarray) -> np.ndarray:
        """Extract the part from float32 [W, 2]."""
        audio = fabric.to_device(torch.from_numpy(np.ascontiguousarray(window.T)))
        batch = audio.reshape(-1, _CHANNELS if self.is_stereo else 1, audio.shape[-1])
        output: Tensor = self.network(batch)
        output = output.unflatten(0, (-1, 1)) if output.dim() == batch.dim() else output
        # Some networks return whole frames only.
        part = nn.functional.pad(output[:, self.source], (0, batch.shape[-1] - output.shape[-1]))
        part = batch - part if self.is_remainder else part
        return part.float().reshape(_CHANNELS, -1).cpu().numpy().T


def _load_model(path: Path, config_path: Path, stem: str | None, names: tuple[str, ...], fabric: Fabric) -> _Model:
    """Load a network and move it to the device; raises one of `_UNUSABLE`."""
    import yaml

    core = _import_core()
    weights = core.unwrap_state_dict(read_pickle(path, "separation model"))
    try:
        config = core.load_config(config_path)
    except yaml.YAMLError as error:
        raise ValueError(f"'{config_path}' is not YAML: {error}") from error
    kind = core.detect_model_type(config)
    # The depth of this part of published Mel-Band RoFormers is not the one in their YAML files.
    layers = sum(bool(_LAYER_OF_MASKS.fullmatch(name)) for name in weights)
    overrides = {"mlp_hidden_layers": layers - 1} if kind.startswith("mel_band") else None
    network, _ = core.get_model_from_config(kind, config_path, overrides)
    network.load_state_dict(weights)
    source, is_remainder = _find_stem(config.training, stem, names)
    window_samples = int(config.get("inference", {}).get("chunk_size") or config.audio.chunk_size)
    return _Model(
        fabric.setup_module(network.float().eval().requires_grad_(False)),
        sample_rate=int(config.audio.get("sample_rate", 44100)),
        window_samples=window_samples,
        step_samples=window_samples // max(int(config.get("inference", {}).get("num_overlap", 2)), 2),
        is_stereo=bool(config.model.get("stereo", config.audio.get("num_channels", 2) == _CHANNELS)),
        source=source,
        is_remainder=is_remainder,
    )


def _find_stem(training: Mapping[str, Any], stem: str | None, names: tuple[str, ...]) -> tuple[int, bool]:
    """Return the index of the source of a part, and whether the part is what remains without it.

    Args:
        training: Section of the model's YAML file with `instruments` and `target_instrument`.
        stem: Name of the part in the model; None finds one of `names`.
        names: Names of the part, in order of preference.

    Raises:
        ConfigurationError: The model has no such part.
    """
    stems = [str(name) for name in training["instruments"]]
    target = training.get("target_instrument")
    sources = [str(target)] if target else stems
    lower = [name.lower() for name in stems]
    wanted = [stem.lower()] if stem else [name for name in names if name in lower]
    for name in wanted:
        for index, source in enumerate(sources):
            if source.lower() == name:
                return index, False
        if name in lower and len(stems) == len(sources) + 1:
            return 0, True
    raise ConfigurationError(f"it has no stem '{stem or names[0]}'; choose stem= from: {', '.join(stems)}")


def _resamplers(from_rate: int, to_rate: int) -> Stage:
    return PerChannel([Resampler(from_rate, to_rate) for _ in range(_CHANNELS)])


def _import_core() -> Any:
    return import_extra("pymss_core", "covers", "separation", "pymss-core")
