"""Pieces of HTML of the page; texts are escaped."""

from __future__ import annotations

import html
import re
from base64 import b64encode
from collections.abc import Iterable, Sequence

_GRADIO_PLACEHOLDERS = {ord(letter): f"&#{ord(letter)};" for letter in "{}$`"}


def escaped(text: str) -> str:
    """Escape untrusted text: neither markup nor a placeholder that Gradio fills in."""
    return html.escape(text).translate(_GRADIO_PLACEHOLDERS)


def status(text: str, kind: str = "") -> str:
    """Return a status line, announced by screen readers; `kind` is '' or 'error'."""
    return f'<div class="status {kind}" role="status">{escaped(text)}</div>'


def error(message: str) -> str:
    """Return the status line of an error."""
    return status(sentence(message), "error")


def hint(text: str) -> str:
    """Return a remark, such as the first step in an empty list."""
    return f'<p class="hint">{escaped(text)}</p>'


def table(rows: Iterable[Sequence[str]], head: Sequence[str] = ()) -> str:
    """Return a table; without a head, the first column contains the names of the values."""
    titles = "".join(f'<th scope="col">{escaped(title)}</th>' for title in head)
    lines = []
    for first, *others in rows:
        cells = "".join(f"<td>{escaped(cell)}</td>" for cell in others)
        lines.append(f'<tr><th scope="row">{escaped(first)}</th>{cells}</tr>')
    return f'<table class="list">{f"<thead><tr>{titles}</tr></thead>" if head else ""}{"".join(lines)}</table>'


def command(title: str, *lines: str) -> str:
    """Return the commands that do the same as an action, below a title that unfolds them."""
    code = "\n".join(lines)
    return (
        f'<details class="command"><summary>{escaped(title)}</summary><pre tabindex="0">{escaped(code)}</pre></details>'
    )


def picture(png: bytes, description: str, kind: str = "") -> str:
    """Return an embedded picture; `kind` is '' or 'plain', for one with a transparent background."""
    return f'<img class="picture {kind}" src="{data_url("image/png", png)}" alt="{escaped(description)}">'


def player(title: str, source: str) -> str:
    """Return a player of the audio at an address."""
    return (
        f'<figure class="player"><figcaption>{escaped(title)}</figcaption>'
        f'<audio controls preload="metadata" src="{escaped(source)}" aria-label="{escaped(title)}"></audio></figure>'
    )


def download(title: str, source: str) -> str:
    """Return a link that downloads a file."""
    return f'<a class="download" href="{escaped(source)}" download>{escaped(title)}</a>'


def data_url(kind: str, content: bytes) -> str:
    """Return content as an address."""
    return f"data:{kind};base64,{b64encode(content).decode()}"


def sentence(text: str) -> str:
    """Return a message as a sentence; a setting at its beginning, such as `data.batch_size=0`, stays as it is."""
    first = text if re.match(r"\w*([._]\w|=)", text) else text[:1].upper() + text[1:]
    return first + ("" if text.endswith((".", "!", "?")) else ".")
