"""The report as an HTML page: one file with embedded audio and pictures, without scripts or network access."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Iterable
from html import escape

import numpy as np
import soundfile

from rvc_lightning.audio.decode import resample
from rvc_lightning.audio.encode import fitting_rate
from rvc_lightning.evaluation.report import METRICS, ClipSample, Report

_LOWEST_MP3_RATE = 16000
_SUMMARY = ' class="sum"'

TASKS = {
    "resynthesis": "Held-out recordings of the voice's own speaker, resynthesized with the voice and compared "
    "with the recordings frame by frame.",
    "conversion": "Recordings of other speakers, converted: melody and words should match the source, the speaker "
    "should match the voice.",
}
"""Description of each task, for readers."""

# The page loads only embedded data and runs no script, even if a file name contains one.
_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --dim: #777; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2.5rem; }
h3 { font-size: 1rem; overflow-wrap: anywhere; margin: 0 0 .5rem; }
p, li, dd { max-width: 48rem; } .dim { color: var(--dim); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .5rem; font-size: .9rem; text-align: right; white-space: nowrap; }
th, td { border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; max-width: 22rem; overflow: hidden; text-overflow: ellipsis; }
tr.sum { background: var(--soft); font-weight: 600; }
article { border: 1px solid var(--line); border-radius: .5rem; padding: 1rem; margin: 1rem 0; }
.players { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; } audio { display: block; width: 18rem; }
img { width: 100%; height: auto; margin-top: 1rem; background: #fff; border-radius: .25rem; }
dt { font-weight: 600; } dd { margin: 0 0 .4rem; }
"""


def mp3(audio: np.ndarray, sample_rate: int) -> bytes:
    """Encode audio [N] as MP3, which every browser plays at 16 to 48 kHz."""
    rate = fitting_rate(".mp3", max(sample_rate, _LOWEST_MP3_RATE))
    stream = io.BytesIO()
    soundfile.write(stream, np.clip(resample(audio, sample_rate, rate), -1, 1), rate, format="MP3")
    return stream.getvalue()


def render(report: Report) -> str:
    """Render the report as HTML."""
    voice = str(report.voice.get("name") or "voice")
    facts = " · ".join(f"{key} {value}" for key, value in report.voice.items() if key != "name" and value is not None)
    title = f"{voice}: {report.task}"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p class="dim">{escape(facts)}</p>
<p>{escape(TASKS[report.task])}</p>
<div class="wide">{_table(report)}</div>
{_list("Notes", report.notes())}
<h2>Samples</h2>
{_samples(report)}
<h2>Metrics</h2>
<dl>{"".join(_definition(key) for key in report.columns())}</dl>
</body>
</html>
"""


def _table(report: Report) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in ("clip", *(METRICS[key].title for key in report.columns())))
    clips = "".join(_row(name, cells, "") for name, cells in report.rows())
    means = "".join(_row(name, cells, _SUMMARY) for name, cells in report.mean_rows())
    return f"<table><thead><tr>{head}</tr></thead><tbody>{clips}{means}</tbody></table>"


def _row(name: str, cells: Iterable[str], kind: str) -> str:
    return f"<tr{kind}><td>{escape(name)}</td>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _list(title: str, texts: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<h2>{escape(title)}</h2><ul>{items}</ul>" if items else ""


def _samples(report: Report) -> str:
    articles = "".join(_sample(sample) for sample in report.samples)
    n_hidden = len(report.clips) - len(report.samples)
    return articles + (f'<p class="dim">{n_hidden} more clips appear in the table only.</p>' if n_hidden else "")


def _sample(sample: ClipSample) -> str:
    players = "".join(
        f'<figure><figcaption>{escape(title)}</figcaption><audio controls preload="metadata" '
        f'src="{_data("audio/mpeg", content)}"></audio></figure>'
        for title, content in sample.players.items()
    )
    picture = f'<img alt="mel spectra and pitch of {escape(sample.name)}" src="{_data("image/png", sample.picture)}">'
    return f'<article><h3>{escape(sample.name)}</h3><div class="players">{players}</div>{picture}</article>'


def _definition(key: str) -> str:
    metric = METRICS[key]
    return f"<dt>{escape(metric.title)}</dt><dd>{escape(metric.description)}</dd>"


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{b64encode(content).decode()}"
