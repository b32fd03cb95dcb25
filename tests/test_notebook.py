"""Functions for the notebooks."""

import sys

import numpy as np
import pytest
from torch.utils.tensorboard import SummaryWriter

from rvc_lightning.config.options import option_fields
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.errors import ConfigurationError, RVCError

notebook = pytest.importorskip("rvc_lightning.notebook", reason="pip install rvc_lightning[notebook]")


@pytest.fixture
def controls():
    return notebook.OptionControls()


def test_every_option_has_a_described_widget(controls):
    names = [one.name for one in option_fields(ConversionOptions) if one.name not in ("write_f0", "output_format")]
    assert list(controls.widgets) == names
    assert controls.options() == ConversionOptions()
    for row, name in zip(controls.box.children, names, strict=True):
        assert row.children[0].value == name and row.children[1] is controls.widgets[name] and row.children[2].value


def test_widgets_have_the_bounds_of_the_options(controls):
    bounded = [one for one in option_fields(ConversionOptions) if one.kinds in ((float,), (int,)) and not one.optional]
    found = [one for one in bounded if one.max is not None]
    assert {"transpose_semitones", "index_rate", "protect"} <= {one.name for one in found}
    for one in found:
        assert (controls.widgets[one.name].min, controls.widgets[one.name].max) == (one.min, one.max)


def test_options_have_the_values_of_the_widgets(controls):
    controls.widgets["transpose_semitones"].value = -3
    controls.widgets["index_rate"].value = 0.25
    controls.widgets["speaker"].value = "01"
    controls.widgets["proposed_pitch_hz"].value = "155"
    controls.widgets["effects"].value = "[limiter, {name: reverb, room_size: 0.8}]"
    chosen = controls.options()
    assert (chosen.transpose_semitones, chosen.index_rate, chosen.speaker) == (-3, 0.25, "01")
    assert chosen.proposed_pitch_hz == 155
    assert [effect.name for effect in chosen.effects] == ["limiter", "reverb"]


def test_overrides_are_the_changed_options(controls):
    assert controls.overrides() == []
    controls.widgets["transpose_semitones"].value = -3
    controls.widgets["effects"].value = "[{name: gain, gain_db: 2.5}]"
    assert controls.overrides() == ["transpose_semitones=-3.0", "effects=[{name:gain,gain_db:2.5}]"]


def test_initial_values():
    controls = notebook.OptionControls(protect=0.1, proposed_pitch_hz=200, effects=["limiter"])
    assert controls.widgets["effects"].value == "[limiter]"
    assert controls.options() == ConversionOptions(protect=0.1, proposed_pitch_hz=200, effects=["limiter"])
    with pytest.raises(ConfigurationError, match="protect"):
        notebook.OptionControls(protect=2)
    with pytest.raises(ConfigurationError, match="protekt"):
        notebook.OptionControls(protekt=0.1)


@pytest.mark.parametrize(("name", "text"), [("proposed_pitch_hz", "high"), ("effects", "[limiter"), ("effects", "[x]")])
def test_invalid_values_are_rejected(controls, name, text):
    controls.widgets[name].value = text
    with pytest.raises(ConfigurationError, match=r"proposed_pitch_hz|effect"):
        controls.options()


def shown(monkeypatch):
    found = []
    monkeypatch.setattr(notebook, "display", found.append)
    return found


@pytest.mark.slow
def test_players_and_plots(monkeypatch):
    found = shown(monkeypatch)
    sounds = {"<b>": (np.zeros(800, np.float32), 8000), "b": (np.full(1600, 2.0, np.float32), 16000)}
    notebook.listen(sounds)
    notebook.look(sounds)
    kinds = [type(one).__name__ for one in found]
    assert kinds == ["HTML", "Audio", "HTML", "Audio", "Image"]
    assert found[0].data == "<b>&lt;b&gt;</b>"
    assert found[4].data.startswith(b"\x89PNG")


def test_curves_of_the_newest_run(monkeypatch, tmp_path):
    found = shown(monkeypatch)
    with pytest.raises(ConfigurationError, match="no run found in"):
        notebook.plot_training(tmp_path)
    with SummaryWriter(tmp_path / "run" / "tensorboard") as writer:
        for step in range(3):
            writer.add_scalar("val/mel", 1 / (step + 1), step)
        writer.add_scalar("loss/mel", 0.5, 2)
        writer.add_scalar("other", 1, 0)
    drawn = []
    monkeypatch.setattr(notebook, "_curves", lambda curves: drawn.append(curves) or notebook.Figure())
    notebook.plot_training(tmp_path)
    assert drawn == [{"val/mel": [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))], "loss/mel": [(2, 0.5)]}]
    assert type(found[0]).__name__ == "Image"


def test_plots_of_any_number_of_curves():
    curve = [(0, 1.0), (1, 2.0)]
    for count in (0, 1, 4):
        figure = notebook._curves({str(number): curve for number in range(count)})
        assert sum(bool(axis.lines) for axis in figure.axes) == count


@pytest.mark.slow
def test_run_shows_output_and_raises_on_failure(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RVCError, match="export failed with exit status 1; see its output above"):
        notebook.run("export", checkpoint=tmp_path / "it's gone, [so] it = is.ckpt", name=None)
    assert "it's gone, [so] it = is.ckpt'" in capsys.readouterr().out
    notebook.run("export", "--cfg", "job", seed=7)
    assert "seed: 7" in capsys.readouterr().out


@pytest.mark.slow
def test_interrupted_command_shows_its_last_output(capsys, monkeypatch):
    script = (
        # Background processes ignore the signal otherwise.
        "import signal, sys, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try: print('began', flush=True); time.sleep(60)\nexcept KeyboardInterrupt: print('saved'); sys.exit(130)"
    )
    really, relays = notebook.subprocess.Popen, []
    monkeypatch.setattr(
        notebook.subprocess, "Popen", lambda words, **kinds: really([sys.executable, "-c", script], **kinds)
    )
    relay = notebook._relay

    def interrupted(process):
        relays.append(process)
        if len(relays) == 1:
            assert process.stdout.readline() == b"began\n"
            raise KeyboardInterrupt
        relay(process)

    monkeypatch.setattr(notebook, "_relay", interrupted)
    with pytest.raises(RVCError, match="exit status 130"):
        notebook.run("train")
    assert capsys.readouterr().out == "saved\n"
