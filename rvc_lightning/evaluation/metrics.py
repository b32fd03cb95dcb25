"""Who judges a recording, beyond what spectra and pitch tell: other projects' networks, installed as extras.

A judge hears 16 kHz on the host, the same on every machine, so that figures can be compared. What is not installed is
left out and named with the command that installs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from rvc_lightning.errors import ConfigurationError, unknown_choice
from rvc_lightning.evaluation.quality import QualityJudge
from rvc_lightning.evaluation.speaker import SpeakerJudge
from rvc_lightning.evaluation.words import WordsJudge

EXTRA = 'pip install "rvc-lightning[evaluate]"'
"""Installs what can be installed with its own requirements."""


@dataclass(frozen=True)
class JudgeKind:
    """A judge by name, and what it needs."""

    build: Callable[[], Any]
    package: str
    """What is imported."""
    gives: str
    """In words, for messages."""
    remedy: str
    """Installs it."""


JUDGES = {
    "speaker": JudgeKind(
        SpeakerJudge,
        "resemblyzer",
        "speaker similarity",
        # Its requirement webrtcvad does not import beside current setuptools; the extra brings webrtcvad-wheels.
        f"{EXTRA} && pip install --no-deps resemblyzer",
    ),
    "quality": JudgeKind(QualityJudge, "speechmos", "estimated MOS", EXTRA),
    "words": JudgeKind(WordsJudge, "pocketsphinx", "phone error", EXTRA),
}


@dataclass(frozen=True)
class MetricSuite:
    """The judges there are, None for those there are not, and why not."""

    speaker: SpeakerJudge | None = None
    quality: QualityJudge | None = None
    words: WordsJudge | None = None
    left_out: tuple[str, ...] = ()
    """Sentences that name what is missing, why, and the remedy."""


def build_metrics(names: Sequence[str], demand: bool = False) -> MetricSuite:
    """Gets judges ready.

    Args:
        names: Keys of `JUDGES`.
        demand: Whether one that is not installed is an error.

    Raises:
        ConfigurationError: There is no such judge, or a demanded one is not installed.
    """
    built: dict[str, Any] = {}
    left_out: list[str] = []
    for name in names:
        if name not in JUDGES:
            raise unknown_choice("judge", name, JUDGES)
        kind = JUDGES[name]
        if reason := why_not_importable(kind.package):
            left_out.append(f"{kind.gives}: {reason}; {kind.remedy}")
        else:
            built[name] = kind.build()
    if demand and left_out:
        raise ConfigurationError("; ".join([f"judges={list(names)} are demanded", *left_out]))
    return MetricSuite(**built, left_out=tuple(left_out))


def why_not_importable(package: str) -> str | None:
    """Why `package` cannot be imported, or None where it can."""
    try:
        import_module(package)
    except ModuleNotFoundError as error:
        return f"the package {error.name} is not installed"
    except ImportError as error:
        return f"the package {package} cannot be imported ({error})"
    return None
