"""Run the notebooks with other values in the cell tagged `parameters`."""

import json
import re
import shutil
from pathlib import Path

import nbformat
import pytest
import soundfile
from nbclient import NotebookClient
from stubs import make_voice, quick_config

import rvc_lightning

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
DEMO = Path(rvc_lightning.__file__).parent / "assets" / "demo"


def execute(name, folder, parameters):
    """Run a notebook in `folder` with other parameters, and return its code cells."""
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    (variables,) = [cell for cell in cells if "parameters" in cell.metadata.get("tags", ())]
    variables.source += "\n" + "\n".join(f"{key} = {value!r}" for key, value in parameters.items())
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    return cells


def shown(cells):
    """Count the players, pictures and widgets that the cells show."""
    data = [output.get("data", {}) for cell in cells for output in cell.outputs]
    return {
        "players": sum("<audio" in one.get("text/html", "") for one in data),
        "pictures": sum("image/png" in one for one in data),
        "controls": sum("application/vnd.jupyter.widget-view+json" in one for one in data),
    }


@pytest.mark.slow
def test_convert(tmp_path):
    make_voice(quick_config()).save(tmp_path / "anna.pth")
    parameters = {
        "voice_path": "anna.pth",
        "input_path": str(DEMO / "source" / "01.flac"),
        "output_path": "converted.wav",
        "first_options": {"transpose_semitones": 3, "index_rate": 0},
    }
    cells = execute("convert.ipynb", tmp_path, parameters)
    assert shown(cells) == {"players": 2, "pictures": 1, "controls": 1}
    source = soundfile.info(DEMO / "source" / "01.flac")
    assert soundfile.info(tmp_path / "converted.wav").frames == -(-source.frames * 8000 // source.samplerate)


QUICK = (
    "model.synthesizer.initial_channels=16", "model.synthesizer.hidden_channels=8", "model.synthesizer.n_layers=1",
    "model.synthesizer.latent_channels=4", "model.synthesizer.filter_channels=8", "trainer.accelerator=cpu",
    "trainer.max_epochs=1", "trainer.max_time=null", "trainer.val_check_interval=null",
    "trainer.check_val_every_n_epoch=1", "data.held_out=0.3", "data.num_workers=0", "prepare_workers=0",
    "showcase=null", "pretrained=none",
)  # fmt: skip


@pytest.mark.slow
def test_train(tmp_path):
    (tmp_path / "her recordings").mkdir()
    for number in ("09", "10", "11"):
        shutil.copy(DEMO / "target" / f"{number}.flac", tmp_path / "her recordings")
    parameters = {
        "recordings": "her recordings", "name": "anna", "settings": list(QUICK), "show_tensorboard": False,
    }  # fmt: skip
    cells = execute("train.ipynb", tmp_path, parameters)
    assert (tmp_path / "voices" / "anna" / "anna.pth").is_file()
    assert shown(cells) == {"players": 2, "pictures": 2, "controls": 0}
    printed = "".join(output.get("text", "") for cell in cells for output in cell.outputs)
    assert "voice=voices/anna/anna.pth input=" in printed


@pytest.mark.slow
def test_create(tmp_path):
    pytest.importorskip("pyloudnorm")
    make_voice(quick_config()).save(tmp_path / "anna.pth")
    stem = str(DEMO / "source" / "01.flac")
    parameters = {
        "voice_path": "anna.pth", "song": {"vocals": stem, "instrumental": stem}, "first_options": {"index_rate": 0.1},
        "cover_settings": ["key_semitones=2", "trainer.accelerator=cpu"], "text": "",
    }  # fmt: skip
    if shutil.which("espeak-ng"):
        parameters |= {"text": "It's 'good', isn't it?", "speech_settings": ["trainer.accelerator=cpu"]}
    cells = execute("create.ipynb", tmp_path, parameters)
    assert shown(cells) == {"players": 1 + bool(parameters["text"]), "pictures": 0, "controls": 1}
    assert soundfile.info(tmp_path / "cover.wav").frames == soundfile.info(stem).frames


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_contain_calls_only(path):
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"] and cell["execution_count"] is None
            lines = "".join(cell["source"]).splitlines()
            assert not [line for line in lines if line.lstrip().startswith(("def ", "class ", "lambda "))]


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_names_in_magics_are_defined(path):
    code = "".join("".join(cell["source"]) + "\n" for cell in json.loads(path.read_text(encoding="utf-8"))["cells"])
    magics = [line for line in code.splitlines() if line.lstrip().startswith("%")]
    names = {name for line in magics for name in re.findall(r"{(\w+)", line)}
    assert names and all(re.search(rf"^ *{name} = |import {name}$", code, re.MULTILINE) for name in names)
