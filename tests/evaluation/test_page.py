"""The report as table, JSON and page, of clips with malicious names."""

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from evaluation_tools import RATE, gliding_tone

from rvc_lightning.audio.discovery import SkippedFile
from rvc_lightning.evaluation.output import default_folder, has_report, write_report
from rvc_lightning.evaluation.page import mp3, render
from rvc_lightning.evaluation.pictures import draw, png
from rvc_lightning.evaluation.report import METRICS, ClipReport, ClipSample, Report, mean_scores

MALICIOUS = [
    "<script>alert(1)</script>.wav",
    '"><img src=//evil.example/x onerror=alert(1)>.wav',
    "' onmouseover='alert(1).wav",
    "&lt;b&gt; \u202e\x1b[2J.wav",
    "plain.wav",
]
EMBEDDING_TAGS = "script", "link", "iframe", "object", "embed", "base", "form", "svg"


@pytest.fixture(scope="module")
def report():
    clips = [ClipReport(name, 1.0, 3.0, {"pitch_correlation": 0.5, "mos_overall": None}, {}) for name in MALICIOUS]
    picture = png(draw({"source": np.zeros((4, 9))}, {"source": np.full(9, 100.0)}, log_pitch=True))
    samples = [ClipSample(name, {"source": mp3(gliding_tone(150), RATE)}, picture) for name in MALICIOUS[:4]]
    return Report(
        "conversion",
        {"name": "<b>anna</b>", "file": "</title><script>x</script>.pth"},
        {"audio": "in"},
        clips,
        [SkippedFile("<i>.txt", "not <audio>")],
        ["estimated MOS: not installed"],
        samples=samples,
    )


class Elements(HTMLParser):
    """Elements with their attributes, and their text."""

    def __init__(self, page):
        super().__init__()
        self.found, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_page_lists_every_clip_and_loads_nothing(report):
    page = render(report)
    elements = Elements(page)
    for name in MALICIOUS:
        assert name in elements.text
    assert not {tag for tag, _ in elements.found} & set(EMBEDDING_TAGS)
    assert not [attrs for _, attrs in elements.found if any(name.startswith("on") or name == "href" for name in attrs)]
    sources = [attrs["src"] for _, attrs in elements.found if "src" in attrs]
    assert len(sources) == 2 * len(report.samples)
    assert all(re.match(r"data:(audio/mpeg|image/png);base64,", source) for source in sources)
    without_data = re.sub(r'src="data:[^"]*"', "", page)
    assert "http://" not in without_data and "https://" not in without_data and "url(" not in without_data
    policy = next(attrs["content"] for tag, attrs in elements.found if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'") and "script-src" not in policy
    assert "1 more clips appear in the table only" in page
    assert "estimated MOS: not installed" in elements.text and "<i>.txt: not <audio>" in elements.text


def test_json_contains_clips_means_and_versions(report, tmp_path):
    write_report(report, tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["evaluation.html", "evaluation.json"]
    content = json.loads((tmp_path / "new" / "evaluation.json").read_text(encoding="utf-8"))
    assert [clip["name"] for clip in content["clips"]] == MALICIOUS
    assert content["mean"]["pitch_correlation"] == 0.5
    assert content["mean"]["mos_overall"] is None
    assert set(content["metrics"]) == set(METRICS)
    assert {"torch", "rvc_lightning", "resemblyzer"} <= set(content["versions"])
    assert (content["task"], content["settings"]) == ("conversion", {"audio": "in"})


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("anna", "anna"),
        ("Aña 2", "Aña 2"),
        ("../../etc", "etc"),
        ("..", "voice"),
        ("/", "voice"),
        ("CON", "_CON"),
        ("a" * 999, "a" * 100),
    ],
)
def test_default_folder_of_any_voice_name_is_in_the_working_folder(name, folder):
    assert default_folder(name) == Path("evaluations") / folder


def test_table_omits_empty_columns_and_control_characters(report):
    lines = report.text().splitlines()
    assert lines[0].split() == ["pitch", "corr."]
    assert lines[6].split() == ["mean", "0.500"] and lines[7] == ""
    assert lines[8] == f"pitch corr.  {METRICS['pitch_correlation'].description}" and lines[9] == ""
    assert len(lines) == 10 + 2
    assert "\x1b" not in report.text() and "\u202e" not in report.text()


def test_source_means_have_a_row_if_any_exist(report):
    clip = ClipReport("a.wav", 1.0, 0.0, {"mos_overall": 3.0, "level_db": 1.0}, {"mos_overall": 2.0})
    report_with_sources = Report("conversion", {"name": "anna"}, {}, [clip])
    assert report_with_sources.text().splitlines()[2:4] == [
        "mean                     +1.0  3.00",
        "mean of the sources         -  2.00",
    ]
    assert render(report_with_sources).count('<tr class="sum">') == 2 and render(report).count('<tr class="sum">') == 1


def test_existing_report_is_found(report, tmp_path):
    assert not has_report(tmp_path) and not has_report(tmp_path / "new")
    write_report(report, tmp_path / "new")
    assert has_report(tmp_path / "new")


def test_means_cover_the_clips_that_have_the_metric():
    means = mean_scores([{"level_db": 1.0}, {"level_db": None}, {}, {"level_db": 3.0, "mos_overall": 2.0}])
    assert means["level_db"] == 2 and means["mos_overall"] == 2
    assert set(means) == set(METRICS) and means["phone_error"] is None


@pytest.mark.parametrize(
    ("rate", "coded"), [(8000, 16000), (24000, 24000), (40000, 44100), (48000, 48000), (96000, 48000)]
)
def test_mp3_uses_a_sampling_rate_of_mpeg(rate, coded):
    audio = np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)
    decoded, found = soundfile.read(io.BytesIO(mp3(audio, rate)))
    assert found == coded
    assert len(decoded) / found == pytest.approx(1, abs=0.1)
    assert len(mp3(audio, rate)) < 30_000
