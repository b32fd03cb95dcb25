"""Decoding of the salience of pitch bins into pitch, in float32 on the device of the salience.

Legend: B items, F frames, S bins.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

CENTS_PER_OCTAVE = 1200
CENTS_REFERENCE_HZ = 10.0
CREPE_BINS = 360
CREPE_BIN_CENTS = 20.0
CREPE_LOWEST_CENTS = 1997.3794084376191
"""Lowest of CREPE's bins (31.7 Hz), which RMVPE shares."""

_HALF_WIDTH = 4


def crepe_cents() -> Tensor:
    """Return the cents above 10 Hz of CREPE's bins, float32 [360]."""
    return (CREPE_LOWEST_CENTS + CREPE_BIN_CENTS * torch.arange(CREPE_BINS, dtype=torch.float64)).float()


def cents_to_hz(cents: Tensor) -> Tensor:
    """Convert cents above 10 Hz to Hz."""
    return CENTS_REFERENCE_HZ * 2.0 ** (cents / CENTS_PER_OCTAVE)


def peak_pitch(salience: Tensor, cents: Tensor, threshold: float, *, repeat_edges: bool) -> Tensor:
    """Average nine bins around the peak, weighted by salience (SPECIFICATION.md, sections 13.1 and 13.2).

    Args:
        salience: Float32 [B, F, S], 0 to 1.
        cents: Cents of each bin above 10 Hz, [S].
        threshold: A frame is voiced if the salience of its peak exceeds it.
        repeat_edges: Whether to repeat the edge bin for neighbors out of range, instead of leaving them out.

    Returns:
        f0_hz, [B, F], 0 where unvoiced.
    """
    peak, center = salience.max(dim=-1, keepdim=True)
    neighbors = center + torch.arange(-_HALF_WIDTH, _HALF_WIDTH + 1, device=salience.device)
    index = neighbors.clamp(0, salience.shape[-1] - 1)
    weight = salience.gather(-1, index)
    if not repeat_edges:
        weight = weight * (index == neighbors)
    mean = (weight * cents[index]).sum(dim=-1) / weight.sum(dim=-1)
    return torch.where(peak[..., 0] > threshold, cents_to_hz(mean), 0.0)


def best_path(log_emission: Tensor, log_transition: Tensor, frames: Tensor) -> Tensor:
    """Find the most likely path through the bins from a uniform start (Viterbi 1967).

    Args:
        log_emission: Log likelihood of each bin, [B, F, S], up to a constant per frame.
        log_transition: Log probability of the step from the bin at distance -R .. R to each bin, [S, 2 * R + 1].
        frames: Frames of each item, int64 [B], 1 .. F; padded frames repeat the last bin.

    Returns:
        Bin of each frame, int64 [B, F].
    """
    batch, total, bins = log_emission.shape
    reach = log_transition.shape[1] // 2
    padded = log_emission.new_full((batch, bins + 2 * reach), -torch.inf)
    score, sources = padded[:, reach:-reach], padded.unfold(1, 2 * reach + 1, 1)
    score.copy_(log_emission[:, 0])
    steps = torch.full((total, batch, bins), reach, dtype=torch.int8, device=log_emission.device)
    for frame in range(1, total):
        best, step = (sources + log_transition).max(dim=-1)
        # Scores near zero keep their precision; only differences matter.
        best = best - best.amax(dim=1, keepdim=True)
        running = (frame < frames)[:, None]
        steps[frame] = torch.where(running, step, reach)
        score.copy_(torch.where(running, best + log_emission[:, frame], score))
    path = [score.argmax(dim=1)]
    for frame in range(total - 1, 0, -1):
        path.append(path[-1] + steps[frame].gather(1, path[-1][:, None])[:, 0] - reach)
    return torch.stack(path[::-1], dim=1)


def triangular_steps(bins: int, reach: int) -> Tensor:
    """Return log probabilities of steps that decrease linearly with distance: [S, 2 * R + 1], for `best_path`.

    Row s, column d is the step from bin s - R + d to bin s. Steps over `reach` bins have a probability of 0, and the
    probabilities of the steps from a bin add up to 1.
    """
    start, end = torch.arange(bins, dtype=torch.float64)[:, None], torch.arange(bins)
    likelihood = (reach + 1 - (start - end).abs()).clamp(min=0)
    log_probability = (likelihood / likelihood.sum(dim=1, keepdim=True)).log()
    columns = functional.pad(log_probability.mT, (reach, reach), value=-torch.inf).unfold(1, 2 * reach + 1, 1)
    return columns.diagonal(dim1=0, dim2=1).mT.float()
