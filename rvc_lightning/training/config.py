"""Settings of training, apart from the sizes of the networks."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rvc_lightning.config.options import Settings, option
from rvc_lightning.errors import ConfigurationError

CONVERSION_LOSSES = ("content", "speaker")
"""Losses of conversions of other people's speech, see `training.conversion_losses`."""
MEL_LOSSES = ("single", "multi_scale")
CHECKPOINTED = ("none", "generator", "all")
CLIPPING = ("norm", "value")
LOSSES = ("adversarial", "features", "mel", "kl", *CONVERSION_LOSSES)
"""Losses of the generator that have a weight; those of conversions are 0 if missing, as in runs of older versions."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Settings, group="model"):
    """Settings of losses and optimizer steps; the defaults are in `conf/model` and `conf/loss`."""

    segment_frames: int = option(help="Length of the segments that are generated and discriminated", min=1)
    n_mels: int = option(help="Bands of the mel spectrum of the mel loss", min=1)
    mel_loss: str = option(help="single: one log-mel spectrum; multi_scale: seven window sizes", choices=MEL_LOSSES)
    loss_weights: dict[str, float] = option(help="Weight of each loss of the generator")
    crop_frames: int | None = option(help="Frames of the random crop of each slice that a step uses", min=2)
    accumulate_grad_batches: int = option(help="Batches of one optimizer step", min=1)
    gradient_clip_val: float | None = option(help="Maximum gradient norm or value; 0 for no clipping", min=0)
    gradient_clip_algorithm: str = option(help="How gradients are clipped", choices=CLIPPING)
    adversarial_from_step: int | None = option(
        help="Steps before the adversarial losses are added; null for training without them", min=0
    )
    speaker_lr: float | None = option(None, "Learning rate of the speaker embedding; null for optimizer.lr", min=0)
    from_content_share: float = option(help="Share of segments generated from content and pitch", min=0, max=1)
    noise_scale: float = option(help="Scale of the prior's standard deviation in conversion", min=0, max=1)
    grad_norm_every_n_steps: int = option(help="Steps between logged gradient norms; 0 for never", min=0)
    checkpoint_activations: str = option(help="Networks that recompute their activations", choices=CHECKPOINTED)
    compile: bool = option(help="Whether generator and discriminator are compiled")

    @property
    def uses_conversions(self) -> bool:
        """Whether a loss of conversions has a weight."""
        return any(self.loss_weights.get(name) for name in CONVERSION_LOSSES)

    def __post_init__(self) -> None:
        """Check all fields. Raises ConfigurationError."""
        super().__post_init__()
        crop = self.crop_frames
        if crop is not None and (crop <= self.segment_frames or crop % 2):
            problem = f"crop_frames={crop}: choose null, or an even number above segment_frames={self.segment_frames}"
        elif {*CONVERSION_LOSSES, *self.loss_weights} != set(LOSSES):
            problem = f"loss_weights={self.loss_weights}: choose a weight for each of {', '.join(LOSSES)}"
        elif not all(math.isfinite(weight) and weight >= 0 for weight in self.loss_weights.values()):
            problem = f"loss_weights={self.loss_weights}: choose finite numbers from 0 up"
        else:
            return
        raise ConfigurationError(f"model.{problem}")
