"""Losses of the GAN, computed in float32 for any input (SPECIFICATION.md, section 7).

Legend: B batch, M mel bands, T frames, N samples, L latent channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rvc_lightning.models.text_encoder import Gaussian


def discriminator_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Least-squares loss (Mao et al. 2017), summed over sub-discriminators.

    Args:
        real: Scores of recorded segments by each sub-discriminator, [B, positions].
        fake: Scores of generated segments.

    Returns:
        A scalar.
    """
    return torch.stack(
        [((1 - r.float()) ** 2).mean() + (f.float() ** 2).mean() for r, f in zip(real, fake, strict=True)]
    ).sum()


def adversarial_loss(fake: Sequence[Tensor]) -> Tensor:
    """Least-squares loss of the generator, summed over sub-discriminators: scores [B, positions] of each -> scalar."""
    return torch.stack([((1 - score.float()) ** 2).mean() for score in fake]).sum()


def feature_loss(real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """Feature matching (Larsen et al. 2016): twice the sum of mean absolute differences of all feature maps."""
    distances = [
        (r.float() - f.float()).abs().mean()
        for real_maps, fake_maps in zip(real, fake, strict=True)
        for r, f in zip(real_maps, fake_maps, strict=True)
    ]
    return 2 * torch.stack(distances).sum()


def offset_loss(waveform: Tensor) -> Tensor:
    """Mean absolute DC offset of waveforms: [B, 1, N] -> scalar.

    Mel spectra ignore a DC offset. Without a discriminator, an untrained generator drifts to where its tanh
    saturates.
    """
    return waveform.float().mean(dim=-1).abs().mean()


def mel_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Mean absolute difference of two log-mel spectra: [B, M, T], [B, M, T] -> scalar."""
    return (real.float() - fake.float()).abs().mean()


def multi_scale_mel_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Sum of the mel losses of all scales: log-mel spectra [B, M, T] of each scale -> scalar."""
    return torch.stack([mel_loss(r, f) for r, f in zip(real, fake, strict=True)]).sum()


def kl_loss(prior_latent: Tensor, posterior_log_std: Tensor, prior: Gaussian) -> Tensor:
    """KL divergence of the posterior, mapped by the flow, from the prior (VITS, Kim et al. 2021, equation 4).

    Summed over channels, and averaged over frames without padding.

    Args:
        prior_latent: Sample of the posterior, mapped by the flow, [B, L, T].
        posterior_log_std: Logarithm of the posterior's standard deviation, [B, L, T].
        prior: Prior, with mask.

    Returns:
        A scalar.
    """
    latent, log_q = prior_latent.float(), posterior_log_std.float()
    mean, log_p = prior.mean.float(), prior.log_std.float()
    divergence = log_p - log_q - 0.5 + 0.5 * (latent - mean) ** 2 * torch.exp(-2 * log_p)
    return (divergence * prior.mask).sum() / prior.mask.sum()
