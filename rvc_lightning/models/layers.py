"""Building blocks shared by the networks.

Legend: B batch, C channels, T frames, H hidden channels, G speaker channels, D channels of one head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

Module = TypeVar("Module", bound=nn.Module)

QUERY_FRAMES = 512
"""Attention queries per block in inference."""
LEAKY_SLOPE = 0.1
"""Slope of all leaky ReLUs except the one before a generator's last convolution."""


def same_padding(kernel_size: int, dilation: int = 1) -> int:
    """Return the padding on each side that preserves the length for an odd kernel."""
    return (kernel_size - 1) * dilation // 2


def build_on_meta(build: Callable[[], Module]) -> Module:
    """Call `build` on torch's meta device, so that the module has names and shapes but no values."""
    with torch.device("meta"):
        return build()


def apply_conv1d(conv: nn.Module, x: Tensor) -> Tensor:
    """Apply a `Conv1d` or `ConvTranspose1d` to [B, C, N], or to [B, C, 1, N] in channels-last format.

    CPU kernels are up to twice as fast in channels-last format, which torch supports for 2-D convolutions only.

    Returns:
        [B, C', N'] or [B, C', 1, N'].
    """
    if x.dim() == 3:
        return conv(x)
    assert isinstance(conv, nn.Conv1d | nn.ConvTranspose1d)
    weight = conv.weight.unsqueeze(2).contiguous(memory_format=torch.channels_last)
    stride, padding, dilation = ((1, *conv.stride), (0, int(conv.padding[0])), (1, *conv.dilation))
    if isinstance(conv, nn.ConvTranspose1d):
        return F.conv_transpose2d(x, weight, conv.bias, stride, padding, (0, *conv.output_padding), 1, dilation)
    return F.conv2d(x, weight, conv.bias, stride, padding, dilation)


def channels_last(x: Tensor) -> Tensor:
    """Convert to channels-last format for `apply_conv1d`: [B, C, N] -> [B, C, 1, N]."""
    return x.unsqueeze(2).contiguous(memory_format=torch.channels_last)


def fold_weight_norm(module: Module) -> Module:
    """Replace each weight-normed weight of `module` in place by its value g·v/‖v‖, for inference; return `module`."""
    for child in module.modules():
        if parametrize.is_parametrized(child, "weight"):
            parametrize.remove_parametrizations(child, "weight", leave_parametrized=True)
            # Weight norm leaves a hook for old state dicts behind, which prevents pickling.
            child._load_state_dict_pre_hooks.clear()
    return module


class ChannelNorm(nn.Module):
    """Layer norm over channels, with the parameter names of the voice format."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T] -> [B, C, T]."""
        return F.layer_norm(x.mT, (x.shape[1],), self.gamma, self.beta, eps=1e-5).mT


class RelativeAttention(nn.Module):
    """Self-attention with learned relative positions in a window (Shaw et al. 2018; SPECIFICATION.md, section 4.1.1).

    Outside the window the relative terms are zero, not clipped to its edge. The window j = i-w .. i+w of query i is a
    band of the score matrix:

        i=0   w . . .        columns of the padded matrix: i + r, r = 0 .. 2w
        i=1   . w . .        after cutting w columns on both sides: j = i + r - w
        i=2   . . w .
    """

    def __init__(self, channels: int, n_heads: int, window: int = 10, dropout: float = 0.0) -> None:
        super().__init__()
        self.n_heads, self.window = n_heads, window
        head_channels = channels // n_heads
        self.conv_q = nn.Conv1d(channels, channels, 1)
        self.conv_k = nn.Conv1d(channels, channels, 1)
        self.conv_v = nn.Conv1d(channels, channels, 1)
        self.conv_o = nn.Conv1d(channels, channels, 1)
        self.emb_rel_k = nn.Parameter(torch.randn(1, 2 * window + 1, head_channels) * head_channels**-0.5)
        self.emb_rel_v = nn.Parameter(torch.randn(1, 2 * window + 1, head_channels) * head_channels**-0.5)
        self.dropout = nn.Dropout(dropout)
        for conv in (self.conv_q, self.conv_k, self.conv_v):
            nn.init.xavier_uniform_(conv.weight)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[B, H, T] with mask [B, 1, T] -> [B, H, T]."""
        query, key, value = (self._heads(conv(x)) for conv in (self.conv_q, self.conv_k, self.conv_v))
        query = query / query.shape[-1] ** 0.5
        # Without gradients, blocks of queries avoid a score matrix of [T, T].
        in_blocks = not (torch.is_grad_enabled() or torch.compiler.is_compiling())
        starts = range(0, query.shape[2], QUERY_FRAMES) if in_blocks else (0,)
        rows = [slice(start, start + QUERY_FRAMES) if in_blocks else slice(None) for start in starts]
        attended = [
            self._attend(query[:, :, row], key, value, mask.unsqueeze(3)[:, :, row] & mask.unsqueeze(2), start)
            for row, start in zip(rows, starts, strict=True)
        ]
        return self.conv_o(torch.cat(attended, dim=2).mT.flatten(1, 2))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, start: int) -> Tensor:
        """Attend from R queries starting at frame `start`.

        Args:
            query: [B, heads, R, D].
            key: [B, heads, T, D].
            value: [B, heads, T, D].
            mask: [B, 1, R, T].
            start: Frame of the first query.

        Returns:
            [B, heads, R, D].
        """
        columns = self._band_columns(query, start)
        band = query @ self.emb_rel_k.mT
        padded = band.new_zeros(*band.shape[:3], key.shape[2] + 2 * self.window).scatter(-1, columns, band)
        scores = query @ key.mT + padded[..., self.window : self.window + key.shape[2]]
        weights = self.dropout(scores.masked_fill(~mask, -1e4).float().softmax(-1).to(value.dtype))
        near = F.pad(weights, (self.window, self.window)).gather(-1, columns)
        return weights @ value + near @ self.emb_rel_v

    def _heads(self, x: Tensor) -> Tensor:
        """Split into heads: [B, H, T] -> [B, heads, T, D]."""
        return x.unflatten(1, (self.n_heads, -1)).mT

    def _band_columns(self, query: Tensor, start: int) -> Tensor:
        """Return the columns i + r of the padded matrix for queries i >= `start`, [B, heads, R, 2w+1]."""
        rows = start + torch.arange(query.shape[2], device=query.device)[:, None]
        columns = rows + torch.arange(2 * self.window + 1, device=query.device)
        return columns.expand(*query.shape[:2], -1, -1)


class FeedForward(nn.Module):
    """Two convolutions of masked input with a ReLU in between (SPECIFICATION.md, section 4.1.1)."""

    def __init__(self, channels: int, filter_channels: int, kernel_size: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv_1 = nn.Conv1d(channels, filter_channels, kernel_size, padding=same_padding(kernel_size))
        self.conv_2 = nn.Conv1d(filter_channels, channels, kernel_size, padding=same_padding(kernel_size))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[B, H, T] with mask [B, 1, T] -> [B, H, T]."""
        x = self.dropout(torch.relu(self.conv_1(x * mask)))
        return self.conv_2(x * mask) * mask


class WaveNet(nn.Module):
    """Gated convolutions with skip connections, conditioned on the speaker (SPECIFICATION.md, section 4.2)."""

    def __init__(self, hidden_channels: int, kernel_size: int, n_layers: int, speaker_channels: int) -> None:
        super().__init__()
        self.hidden_channels, self.n_layers = hidden_channels, n_layers
        double = 2 * hidden_channels
        self.cond_layer = weight_norm(nn.Conv1d(speaker_channels, double * n_layers, 1))
        self.in_layers = nn.ModuleList(
            weight_norm(nn.Conv1d(hidden_channels, double, kernel_size, padding=same_padding(kernel_size)))
            for _ in range(n_layers)
        )
        self.res_skip_layers = nn.ModuleList(
            weight_norm(nn.Conv1d(hidden_channels, double if layer < n_layers - 1 else hidden_channels, 1))
            for layer in range(n_layers)
        )

    def forward(self, x: Tensor, mask: Tensor, speaker_code: Tensor) -> Tensor:
        """[B, H, T], mask [B, 1, T], speaker_code [B, G, 1] -> [B, H, T]."""
        skips = torch.zeros_like(x)
        conditions = self.cond_layer(speaker_code).chunk(self.n_layers, dim=1)
        for layer, (convolve, split, condition) in enumerate(
            zip(self.in_layers, self.res_skip_layers, conditions, strict=True)
        ):
            content, gate = (convolve(x) + condition).chunk(2, dim=1)
            out = split(torch.tanh(content) * torch.sigmoid(gate))
            if layer < self.n_layers - 1:
                residual, out = out.chunk(2, dim=1)
                x = (x + residual) * mask
            skips = skips + out
        return skips * mask
