"""Tables of the benchmark at small sizes; the figures themselves are not checked."""

import re
from importlib import import_module

import pytest
from hydra import compose, initialize_config_module
from stubs import make_voice, quick_config

from rvc_lightning.cli import resolvers

resolvers.register()

pytestmark = pytest.mark.slow

SMALL = {
    "training": ["steps=2", "seconds=0.4", "table.batch_size=[2]"],
    "preparation": ["preparation_table.batch_slices=[2]", "prepare_workers=0"],
    "live": ["live.clips=1", "live.presets=[quality]"],
    "conversion": ["conversion.clips=2", "conversion.seconds=0.5", "conversion.index_rows=100"],
}
TINY = [
    *("model=tiny", "sample_rate=24k_light", "discriminator=tiny", "rounds=1", "content_dim=768"),
    *("trainer.accelerator=cpu", "encoder.num_hidden_layers=1", "encoder.intermediate_size=16"),
]


def rows_of(measure, *overrides):
    with initialize_config_module("rvc_lightning.conf", version_base="1.3"):
        config = compose("benchmark", overrides=[*TINY, *SMALL[measure], *overrides, f"measure={measure}"])
    head, rule, *rows = import_module(f"rvc_lightning.benchmarks.{measure}").run(config).splitlines()
    assert set(rule) == {"|", "-"} and rows
    columns = [column.strip() for column in head.strip("|").split("|")]
    return [dict(zip(columns, (cell.strip() for cell in row.strip("|").split("|")), strict=True)) for row in rows]


def test_training_is_compared_with_the_plain_loop():
    rows = rows_of("training")
    assert [(row["loop"], row["batch"]) for row in rows] == [("plain", "2"), ("ours", "2")]
    assert all(float(row["s/step"]) > 0 and float(row["GiB"]) > 0 for row in rows)
    assert rows[0]["x plain"] == "1.00"


def test_preparation(recorded_demo):
    (row,) = rows_of("preparation", f"preparation_table.audio={recorded_demo}")
    assert row["x first"] == "1.00" and all(float(row[stage]) > 0 for stage in ("slicing", "pitch", "content"))


def test_conversion():
    rows = rows_of("conversion")
    assert [row["conversion"] for row in rows] == ["plain", "one by one", "together"]
    for row in rows:
        assert re.fullmatch(r"\d+\.\d+", row["s/audio-s"]) and float(row["s/audio-s"]) > 0


@pytest.fixture
def recorded_demo(tmp_path):
    """The first two recordings of the demo."""
    folder = tmp_path / "audio"
    folder.mkdir()
    for path in sorted((resolvers.DEMO_FOLDER / "target").iterdir())[:2]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_live(tmp_path):
    make_voice(quick_config()).save(tmp_path / "anna.pth")
    row, whole = rows_of("live", f"live.voice={tmp_path / 'anna.pth'}")
    assert whole["preset"] == "whole files"
    assert 0 <= float(whole["phone error"]) <= 1 <= float(whole["MOS"])
    assert (
        float(row["MOS"]) >= 1
        and row["preset"] == "quality"
        and row["latency"].endswith(" ms")
        and float(row["compute, median"]) > 0
    )
