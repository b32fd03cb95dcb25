"""Rules of the tree: what may import what, and that nobody but Lightning places anything on a device."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rvc_lightning

PACKAGE = Path(rvc_lightning.__file__).parent
ROOT = PACKAGE.parent
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", sorted((PACKAGE / "models").rglob("*.py")), ids=lambda path: path.name)
def test_models_are_plain_torch(path):
    assert not set(imports(path)) & {"lightning", "hydra", "omegaconf", "faiss", "librosa"}


def test_only_retrieval_imports_faiss():
    assert [path.name for path in FILES if "faiss" in set(imports(path))] == ["retrieval.py"]


BY_HAND = (
    r"\.cuda\(",
    r"\.to\((self\.)?device",
    r'torch\.device\((?!"meta"\))',
    r"empty_cache",
    r"weights_only=False",
    r"import torchaudio",
    # What the environment decides comes through the configuration, where it is documented. These two are not ours:
    # torch's threads and Hydra read them.
    r'os\.environ(?!\.setdefault\("GOMP_SPINCOUNT"|.*_FULL_ERROR)|getenv',
)


@pytest.mark.parametrize("pattern", BY_HAND)
def test_nothing_is_placed_or_unpickled_by_hand(pattern):
    found = [
        f"{path.name}: {line}" for path in FILES for line in path.read_text().splitlines() if re.search(pattern, line)
    ]
    assert found == []


def test_importing_the_models_brings_nothing_else_in():
    heavy = "lightning", "hydra", "omegaconf", "faiss", "librosa"
    script = f"import sys, rvc_lightning.models; sys.exit(' '.join(n for n in {heavy} if n in sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stderr.strip() == ""


@pytest.mark.parametrize("page", ["README.md", ".github/CONTRIBUTING.md"])
def test_every_file_that_a_page_names_is_there(page):
    text = (ROOT / page).read_text()
    named = set(re.findall(r"`((?:rvc_lightning|conf|tests|notebooks)/[\w./-]*)`", text))
    named = {name for name in named if "NAME" not in name}
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_map_names_every_folder_of_the_package():
    readme = (ROOT / "README.md").read_text()
    folders = [path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file() and path.name != "conf"]
    assert len(folders) > 8 and [name for name in folders if f"`rvc_lightning/{name}/`" not in readme] == []


def test_the_map_names_every_file_at_the_top():
    readme = (ROOT / "README.md").read_text()
    rows = [line.split("|")[1] for line in readme.splitlines() if line.startswith("| `rvc_lightning/")]
    named = {name.strip("`").split("/")[-1].removesuffix(".py") for row in rows for name in row.strip().split(", ")}
    named |= {name for row in rows for braces in re.findall(r"{(.*)}", row) for name in braces.split(",")}
    assert {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"} <= named


def test_torch_is_loaded_after_its_threads_are_told_how_to_wait():
    script = (
        "import os, sys; os.environ.pop('GOMP_SPINCOUNT', None); import rvc_lightning;"
        "sys.exit('torch' in sys.modules or os.environ.get('GOMP_SPINCOUNT') != '1000')"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
