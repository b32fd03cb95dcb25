"""Location of the golden data, and the constants that replace random numbers in it."""

from pathlib import Path

import torch

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


def patch_random(monkeypatch, *, normal=0.0, uniform=0.0):
    """Replace all random numbers by constants, as in the golden data."""
    monkeypatch.setattr(torch, "randn", lambda *size, generator=None, **kw: torch.full(_size(size), normal, **kw))
    monkeypatch.setattr(torch, "rand", lambda *size, generator=None, **kw: torch.full(_size(size), uniform, **kw))
    monkeypatch.setattr(torch, "randn_like", lambda x, **kw: torch.full_like(x, normal, **kw))
    monkeypatch.setattr(torch, "rand_like", lambda x, **kw: torch.full_like(x, uniform, **kw))


def _size(size):
    return size[0] if len(size) == 1 and not isinstance(size[0], int) else size
