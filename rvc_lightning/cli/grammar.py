"""Explanations of overrides that Hydra cannot read, with the override that was probably meant."""

from __future__ import annotations

import re

from rvc_lightning.cli.overrides import format_override, group_names
from rvc_lightning.io.processes import quote_argument

_CLOSING = {"[": "]", "{": "}", "(": ")"}
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_AMBIGUOUS = re.compile(r"Ambiguous value for argument '(.*?)' 1\. ")
_NO_PLUS = "the setting exists already; type {}, without the plus sign"
_PLUS = (
    (re.compile(r"To append to your default list use \+(\S+)"), "type +{}, with the plus sign"),
    (re.compile(r"Either remove \+ prefix: '(.*?)' Or "), _NO_PLUS),
    (re.compile(r"To override a value use 'override (.*)'"), _NO_PLUS),
)
"""Messages of Hydra about a plus sign, with the override in question, and the remedy."""


def explain_syntax(override: str) -> str:
    """Return the message for an override that violates the grammar."""
    key, _, value = override.partition("=")
    problem, meant = "text with special characters needs quotes", format_override(key, value)
    if closing := _missing_brackets(value):
        problem, meant = "a bracket is not closed", override + closing
    elif (bare := value.strip("\"',")) != value:
        problem, meant = "a quotation mark or a comma is out of place", f"{key}={bare}"
    return f"{override}: {problem}; type {quote_argument(meant)}"


def _missing_brackets(value: str) -> str:
    """Return the brackets that close those which `value` leaves open."""
    missing: list[str] = []
    for character in value:
        if character in _CLOSING:
            missing.append(_CLOSING[character])
        elif missing and character == missing[-1]:
            missing.pop()
    return "".join(reversed(missing))


def explain_composition(text: str) -> str | None:
    """Return a message in place of Hydra's for a list without brackets, or a plus sign; None for other errors."""
    if ambiguous := _AMBIGUOUS.match(text):
        return _explain_commas(ambiguous[1])
    for pattern, remedy in _PLUS:
        if found := pattern.search(text):
            setting = found[1].replace(": ", "=", 1)
            return f"{setting}: {remedy.format(quote_argument(setting))}"
    return None


def _explain_commas(override: str) -> str:
    """Return the message for an override that Hydra reads as the values of a sweep."""
    key, _, value = override.partition("=")
    remedy = f"a list needs brackets: {quote_argument(f'{key}=[{value}]')}"
    if key.lstrip("+") in group_names():
        remedy = "choose one of them"
    elif _DECIMAL_COMMA.fullmatch(value):
        remedy = f"a decimal number needs a point: {key}={value.replace(',', '.')}"
    return f"{override}: {remedy}; to start one run for each value, add --multirun"
