"""Losses of the GAN: pure functions, computed in float32 whatever their inputs are (specification 7)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rvc_lightning.models.text_encoder import Gaussian


def _float(*tensors: Tensor) -> list[Tensor]:
    return [tensor.float() for tensor in tensors]


def discriminator_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Least squares (Mao et al. 2017), summed over sub-discriminators: scores [B, places] of each -> scalar."""
    return torch.stack(
        [((1 - r.float()) ** 2).mean() + (f.float() ** 2).mean() for r, f in zip(real, fake, strict=True)]
    ).sum()


def adversarial_loss(fake: Sequence[Tensor]) -> Tensor:
    """How far the generated segments are from passing as real, summed over sub-discriminators: a scalar."""
    return torch.stack([((1 - score.float()) ** 2).mean() for score in fake]).sum()


def feature_loss(real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """Twice the summed mean distance of all feature maps (Larsen et al. 2016): maps of each -> scalar."""
    distances = [
        (r.float() - f.float()).abs().mean()
        for real_maps, fake_maps in zip(real, fake, strict=True)
        for r, f in zip(real_maps, fake_maps, strict=True)
    ]
    return 2 * torch.stack(distances).sum()


def offset_loss(waveform: Tensor) -> Tensor:
    """How far waveforms [B, 1, N] lie from zero on average: a scalar.

    Mel spectra are deaf to it. Where nothing else listens, a generator from nothing drifts to where its tanh is flat.
    """
    return waveform.float().mean(dim=-1).abs().mean()


def mel_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Mean absolute distance of two log-mel spectra [B, M, T]: a scalar."""
    return (real.float() - fake.float()).abs().mean()


def multi_scale_mel_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Sum of the mean absolute distances at all scales: log-mel spectra [B, M, T] of each -> scalar."""
    return torch.stack([mel_loss(r, f) for r, f in zip(real, fake, strict=True)]).sum()


def kl_loss(prior_latent: Tensor, posterior_log_std: Tensor, prior: Gaussian) -> Tensor:
    """Divergence of the posterior, seen through the flow, from the prior (VITS, Kim et al. 2021, equation 4).

    Summed over channels, averaged over the frames that are no padding: prior_latent and posterior_log_std
    [B, L, T] -> scalar.
    """
    latent, log_q, mean, log_p = _float(prior_latent, posterior_log_std, prior.mean, prior.log_std)
    divergence = log_p - log_q - 0.5 + 0.5 * (latent - mean) ** 2 * torch.exp(-2 * log_p)
    return (divergence * prior.mask).sum() / prior.mask.sum()
