"""Whose voice it is: cosine similarity of speaker embeddings.

Source: L. Wan et al., "Generalized End-to-End Loss for Speaker Verification", 2018, by the network of the package
resemblyzer, whose weights are in its wheel. Two clips of one speaker are about 0.9 similar, of two speakers 0.5 to 0.7.

Legend: N samples at 16 kHz, R reference clips, E = 256 numbers of an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.evaluation.compare import COMMON_RMS, leveled

_EMBEDDED_RMS = 10 ** (-30 / 20)
"""The level that the network was trained at; it hears loudness."""
_SHORTEST_SAMPLES = SAMPLE_RATE * 3 // 5
_LEAST_ROOM = 0.05


class SpeakerJudge:
    """Embeds recordings."""

    def __init__(self) -> None:
        # Here, since they are an extra and slow to import.
        from lightning import Fabric
        from resemblyzer import VoiceEncoder, preprocess_wav

        # It asks for a device, which is Lightning's to name. On the host, as the other judges.
        self._encoder: Any = VoiceEncoder(device=Fabric(accelerator="cpu", devices=1).device, verbose=False)
        self._trim: Any = preprocess_wav

    def embed(self, wav16k: np.ndarray) -> np.ndarray:
        """The speaker of a recording [N] that is not silent -> [E] of length 1."""
        level = leveled(wav16k) * np.float32(_EMBEDDED_RMS / COMMON_RMS)
        trimmed = self._trim(level)
        # Voice activity detection can leave next to nothing of odd voices.
        return np.asarray(self._encoder.embed_utterance(trimmed if len(trimmed) >= _SHORTEST_SAMPLES else level))


@dataclass(frozen=True)
class Target:
    """A speaker, as known from reference clips."""

    names: tuple[str, ...]
    """Of the clips, [R]."""
    embeddings: np.ndarray
    """Theirs, [R, E], each of length 1."""

    def similarity(self, embedding: np.ndarray, exclude: str | None = None) -> float | None:
        """Cosine of an embedding [E] with the mean of the clips, without that named `exclude`; None if none is left."""
        kept = self.embeddings[[name != exclude for name in self.names]]
        if len(kept) == 0:
            return None
        mean = kept.mean(axis=0)
        return float(embedding @ mean / np.linalg.norm(mean))

    @property
    def own_similarity(self) -> float | None:
        """What a true clip of the speaker scores: the mean over clips of each with the mean of the others."""
        own = [self.similarity(e, n) for e, n in zip(self.embeddings, self.names, strict=True)]
        return float(np.mean([s for s in own if s is not None])) if len(own) > 1 else None


def gain(converted: float, source: float, own: float | None) -> float | None:
    """How far a conversion went from the source to the target: 0 nowhere, 1 all the way.

    Args:
        converted: Similarity of the conversion to the target.
        source: That of the source, unconverted.
        own: That of the target's own clips; None where it is not known.

    Returns:
        None as well where source and target are too alike to tell.
    """
    return None if own is None or own - source < _LEAST_ROOM else (converted - source) / (own - source)


def evenly(items: Sequence[Any], most: int | None) -> list[Any]:
    """At most `most` of the items, spread evenly over all; all of them for None."""
    if most is None or len(items) <= most:
        return list(items)
    return [items[index] for index in np.linspace(0, len(items) - 1, most).round().astype(int)]
