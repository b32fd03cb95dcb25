"""Deterministic weights and inputs of the golden data.

`weight` computes a tensor of a network from its name in files, its shape and a seed, so that full-size networks need
not be stored. `stub_embed`, `stub_f0` and `stub_audio` replace the content encoder, the pitch extractor and a recording.

Random numbers are drawn from `numpy.random.RandomState` in float64 and rounded to float32.
"""

from __future__ import annotations

import re
import zlib

import numpy as np


def _rs(name: str, seed: int) -> np.random.RandomState:
    return np.random.RandomState(zlib.crc32(f"{seed}/{name}".encode()) & 0xFFFFFFFF)


def normal(name: str, shape, seed: int, std: float = 1.0, mean: float = 0.0) -> np.ndarray:
    x = _rs(name, seed).standard_normal(tuple(shape)) * std + mean
    return np.asarray(x, dtype=np.float32)


def _fan_in(shape) -> int:
    return int(np.prod(shape[1:])) if len(shape) > 1 else 1


def weight(key: str, shape, seed: int) -> np.ndarray:
    """Return the tensor stored under `key`."""
    shape = tuple(int(s) for s in shape)
    last = key.rsplit(".", 1)[-1]
    if last == "num_batches_tracked":
        return np.zeros(shape, dtype=np.int64)
    n = _rs(key, seed).standard_normal(shape) if shape else _rs(key, seed).standard_normal()
    if last == "running_mean":
        v = 0.1 * n
    elif last == "running_var":
        v = np.exp(0.2 * n)
    elif last == "weight_g":
        gain = 1.0
        if re.search(r"(^|\.)(ups|upsamples)\.\d+\.", key):
            gain = 1.6
        elif "discriminators." in key:
            gain = 1.8
        elif "res_skip_layers" in key:
            gain = 0.7
        v = gain * (1.0 + 0.1 * n)
    elif last == "weight_v":
        v = n / np.sqrt(_fan_in(shape))
    elif last == "gamma":
        v = 1.0 + 0.1 * n
    elif last == "beta":
        v = 0.1 * n
    elif last in ("emb_rel_k", "emb_rel_v"):
        v = n / np.sqrt(shape[-1])
    elif key.endswith("emb_pitch.weight"):
        v = 0.3 * n
    elif key.endswith("emb_g.weight"):
        v = 0.5 * n
    elif key.endswith("l_linear.weight") or key.endswith("merge.0.weight"):
        v = (2.0 + 0.5 * n) / _fan_in(shape)
    elif last == "bias" or last.startswith("bias_"):
        v = 0.05 * n
    elif last.startswith("weight") and len(shape) == 1:
        # 1-D "weight": noise gain of the RefineGAN blocks is small, norms are near one
        v = 0.02 * (1.0 + 0.1 * n) if re.search(r"blocks\.\d+\.[02]\.weight$", key) else 1.0 + 0.1 * n
    elif ".flows." in key and key.endswith("post.weight"):
        v = 0.5 * n / np.sqrt(_fan_in(shape))
    elif key.endswith("dec.conv_post.weight"):
        v = 0.4 * n / np.sqrt(_fan_in(shape))
    else:
        v = n / np.sqrt(_fan_in(shape))
    return np.asarray(v, dtype=np.float32)


def state(shapes, seed: int) -> dict:
    """Return an array for each stored name and its shape."""
    return {k: weight(k, s, seed) for k, s in shapes.items()}


STUB_SEED = 77


def stub_audio(name: str, seconds: float, sr: int = 16000, seed: int = STUB_SEED) -> np.ndarray:
    """Return three harmonics with vibrato, pauses and noise."""
    n = int(round(seconds * sr))
    t = np.arange(n) / sr
    f0 = 170.0 + 40.0 * np.sin(2 * np.pi * 0.7 * t) + 15.0 * np.sin(2 * np.pi * 5.1 * t)
    ph = 2 * np.pi * np.cumsum(f0) / sr
    x = 0.5 * np.sin(ph) + 0.25 * np.sin(2 * ph + 0.3) + 0.12 * np.sin(3 * ph + 1.1)
    env = 0.55 + 0.45 * np.sin(2 * np.pi * 0.9 * t + 0.4)
    gate = (np.mod(t, 1.3) > 0.16).astype(np.float64)
    x = x * env * gate + 0.01 * _rs(name, seed).standard_normal(n)
    return np.asarray(0.6 * x, dtype=np.float32)


def stub_f0(frames: int) -> np.ndarray:
    """Return pitch in Hz, float64; 12 of every 70 frames are unvoiced (0)."""
    t = np.arange(frames, dtype=np.float64)
    f0 = 190.0 + 70.0 * np.sin(2 * np.pi * t / 97.0) + 25.0 * np.sin(2 * np.pi * t / 13.0)
    f0[np.mod(np.arange(frames), 70) < 12] = 0.0
    return f0


def stub_embed_matrix(dim: int = 768) -> np.ndarray:
    return normal("stub.embed", (400, dim), STUB_SEED, std=0.12)


def stub_embed(audio16k: np.ndarray, dim: int = 768) -> np.ndarray:
    """Return content features: frame i = x[320 i : 320 i + 400] @ M, on the frames of HuBERT."""
    x = np.asarray(audio16k, dtype=np.float32)
    frames = (len(x) - 400) // 320 + 1
    idx = np.arange(frames)[:, None] * 320 + np.arange(400)[None, :]
    return (x[idx] @ stub_embed_matrix(dim)).astype(np.float32)
