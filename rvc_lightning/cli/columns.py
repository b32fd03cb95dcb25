"""Text for terminals: tables, and numbers with their nouns."""

from __future__ import annotations

from collections.abc import Sequence


def format_columns(rows: Sequence[Sequence[str]], *, numbers: bool = True) -> list[str]:
    """Return rows of cells as aligned lines.

    Args:
        rows: Rows of equally many cells.
        numbers: Whether to align all columns but the first to the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    align = str.rjust if numbers else str.ljust
    return ["  ".join([row[0].ljust(widths[0]), *map(align, row[1:], widths[1:])]).rstrip() for row in rows]


def pluralize(number: int, noun: str) -> str:
    """Return a count such as '1 recording' or '2 recordings'; `noun` takes an s in the plural."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
