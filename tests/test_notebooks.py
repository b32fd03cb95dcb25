"""The notebooks run as they stand, but for the paths in their first code cell."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from stubs import make_voice, quick_config

import rvc_lightning

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
DEMO = Path(rvc_lightning.__file__).parent / "assets" / "demo"


def execute(name, folder, parameters):
    """The notebook's code cells after running it in `folder` with other parameters."""
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    cells[0].source += "\n" + "\n".join(f"{key} = {value!r}" for key, value in parameters.items())
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    return cells


def test_convert(tmp_path):
    make_voice(quick_config()).save(tmp_path / "anna.pth")
    cells = execute(
        "convert.ipynb",
        tmp_path,
        {"voice_path": "anna.pth", "index_path": None, "input_path": str(DEMO / "source" / "01.flac")},
    )
    shown = [kind for cell in cells for output in cell.outputs for kind in output.get("data", {})]
    assert shown.count("image/png") == 1
    assert sum("<audio" in output["data"].get("text/html", "") for output in cells[-1].outputs) == 2


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_hold_calls_only(path):
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"] and cell["execution_count"] is None
            lines = "".join(cell["source"]).splitlines()
            assert not [line for line in lines if line.lstrip().startswith(("def ", "class ", "lambda "))]
