"""Metrics by networks of other projects, installed as extras.

All of them take 16 kHz audio and run on the CPU, so that figures are comparable between machines. Metrics whose package
is not installed are omitted, and the report names the command that installs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple

from rvc_lightning.errors import ConfigurationError, unknown_choice
from rvc_lightning.evaluation.mos import OpinionEstimator
from rvc_lightning.evaluation.phones import PhoneRecognizer
from rvc_lightning.evaluation.speaker import SpeakerEncoder

EXTRA = 'pip install "rvc-lightning[evaluate]"'


class OptionalMetric(NamedTuple):
    """A metric that requires a package, its title in messages, and the command that installs the package."""

    build: Callable[[], Any]
    package: str
    title: str
    remedy: str


OPTIONAL_METRICS = {
    "speaker": OptionalMetric(
        SpeakerEncoder,
        "resemblyzer",
        "speaker similarity",
        # Its requirement webrtcvad fails to import beside current setuptools; the extra installs webrtcvad-wheels.
        f"{EXTRA} && pip install --no-deps resemblyzer",
    ),
    "quality": OptionalMetric(OpinionEstimator, "speechmos", "estimated MOS", EXTRA),
    "words": OptionalMetric(PhoneRecognizer, "pocketsphinx", "phone error", EXTRA),
}


@dataclass(frozen=True)
class MetricSuite:
    """The metrics to compute; None for those that are not requested or not installed."""

    speaker: SpeakerEncoder | None = None
    quality: OpinionEstimator | None = None
    words: PhoneRecognizer | None = None
    missing: tuple[str, ...] = ()
    """Messages about metrics that are not installed: reason and remedy."""


def build_metrics(names: Sequence[str], required: bool = False) -> MetricSuite:
    """Build metrics by name.

    Args:
        names: Keys of `OPTIONAL_METRICS`.
        required: Whether a metric that is not installed is an error.

    Raises:
        ConfigurationError: A name is unknown, or a required metric is not installed.
    """
    built: dict[str, Any] = {}
    missing: list[str] = []
    for name in names:
        if (metric := OPTIONAL_METRICS.get(name)) is None:
            raise unknown_choice("metric", name, OPTIONAL_METRICS)
        if reason := import_problem(metric.package):
            missing.append(f"{metric.title}: {reason}; {metric.remedy}")
        else:
            built[name] = metric.build()
    if required and missing:
        raise ConfigurationError("; ".join([f"metrics={list(names)} are required", *missing]))
    return MetricSuite(**built, missing=tuple(missing))


def import_problem(package: str) -> str | None:
    """Return why `package` cannot be imported; None if it can."""
    try:
        import_module(package)
    except ModuleNotFoundError as error:
        return f"the package {error.name} is not installed"
    except ImportError as error:
        return f"the package {package} cannot be imported ({error})"
    return None
