"""Speaker similarity: cosine similarity of speaker embeddings.

Source: L. Wan et al., "Generalized End-to-End Loss for Speaker Verification", 2018, by the network of the package
resemblyzer, whose wheel contains the weights. Clips of one speaker have a similarity of about 0.9, of two speakers 0.5
to 0.7.

Legend: N samples at 16 kHz, R reference clips, E = 256 channels of an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.evaluation.compare import REFERENCE_RMS, match_level
from rvc_lightning.io.imports import import_compiled

_EMBEDDING_RMS = 10 ** (-30 / 20)
"""Level of the network's training data; embeddings depend on loudness."""
_MIN_SAMPLES = SAMPLE_RATE * 3 // 5
_MIN_DIFFERENCE = 0.05


class SpeakerEncoder:
    """Compute speaker embeddings by resemblyzer."""

    def __init__(self) -> None:
        # Imported here: an optional dependency that is slow to import.
        from lightning import Fabric

        # The part of librosa that resemblyzer uses.
        import_compiled("librosa.feature.spectral")
        from resemblyzer import VoiceEncoder, preprocess_wav

        # resemblyzer requires a device; the metrics run on the CPU.
        self._encoder: Any = VoiceEncoder(device=Fabric(accelerator="cpu", devices=1).device, verbose=False)
        self._trim: Any = preprocess_wav

    def embed(self, wav16k: np.ndarray) -> np.ndarray:
        """Return the embedding of a recording [N] that is not silent: unit vector [E]."""
        audio = match_level(wav16k) * np.float32(_EMBEDDING_RMS / REFERENCE_RMS)
        trimmed = self._trim(audio)
        # Voice activity detection can remove nearly everything of unusual voices.
        return np.asarray(self._encoder.embed_utterance(trimmed if len(trimmed) >= _MIN_SAMPLES else audio))


@dataclass(frozen=True)
class TargetSpeaker:
    """A speaker described by reference clips."""

    names: tuple[str, ...]
    """Names of the clips, [R]."""
    embeddings: np.ndarray
    """Unit vectors [R, E]."""

    def similarity(self, embedding: np.ndarray, exclude: str | None = None) -> float | None:
        """Return the cosine of `embedding` [E] and the mean of the clips other than `exclude`; None without clips."""
        embeddings = self.embeddings[[name != exclude for name in self.names]]
        if len(embeddings) == 0:
            return None
        mean = embeddings.mean(axis=0)
        return float(embedding @ mean / np.linalg.norm(mean))

    @property
    def reference_similarity(self) -> float | None:
        """Mean similarity of each clip to the others, the ceiling of a conversion; None for a single clip."""
        scores = [self.similarity(embedding, name) for embedding, name in zip(self.embeddings, self.names, strict=True)]
        return float(np.mean([score for score in scores if score is not None])) if len(scores) > 1 else None


def speaker_gain(converted: float, source: float, reference: float | None) -> float | None:
    """Return how far a conversion moved from source to target: 0 for not at all, 1 for all the way.

    Args:
        converted: Similarity of the conversion to the target.
        source: Similarity of the unconverted source to the target.
        reference: Similarity of the target's clips to each other; None if unknown.

    Returns:
        None if source and target are too similar.
    """
    if reference is None or reference - source < _MIN_DIFFERENCE:
        return None
    return (converted - source) / (reference - source)


def spread(items: Sequence[Any], max_items: int | None) -> list[Any]:
    """Return at most `max_items` of `items`, evenly spread; all for None."""
    if max_items is None or len(items) <= max_items:
        return list(items)
    return [items[index] for index in np.linspace(0, len(items) - 1, max_items).round().astype(int)]
