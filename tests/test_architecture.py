"""Rules of the tree: the order of imports, and no device moves by hand."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import rvc_lightning

PACKAGE = Path(rvc_lightning.__file__).parent
ROOT = PACKAGE.parent
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", sorted((PACKAGE / "models").rglob("*.py")), ids=lambda path: path.name)
def test_models_are_plain_torch(path):
    assert not set(imports(path)) & {"lightning", "hydra", "omegaconf", "faiss", "librosa"}


@pytest.mark.slow
def test_only_retrieval_imports_faiss():
    assert [path.name for path in FILES if "faiss" in set(imports(path))] == ["index.py"]


BY_HAND = (
    r"\.cuda\(",
    r"\.to\((self\.)?device",
    r'torch\.device\((?!"meta"\))',
    r"empty_cache",
    r"weights_only=False",
    r"import torchaudio",
    # Environment variables are read by the configuration, where they are documented. These are not ours:
    # torch's threads, Hydra and child processes read them.
    r'os\.environ(?!\.setdefault\("(GOMP_SPINCOUNT|PYTORCH_ENABLE_MPS_FALLBACK|KMP_DUPLICATE_LIB_OK)"|.*(_FULL_ERROR|PYTHONPATH|PYTHONIOENCODING|PROGRESS_VARIABLE))|getenv',
)


@pytest.mark.parametrize("pattern", BY_HAND)
def test_nothing_is_placed_or_unpickled_by_hand(pattern):
    found = [
        f"{path.name}: {line}"
        for path in FILES
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(pattern, line)
    ]
    assert found == []


@pytest.mark.slow
def test_importing_models_imports_no_other_room():
    heavy = "lightning", "hydra", "omegaconf", "faiss", "librosa"
    script = f"import sys, rvc_lightning.models; sys.exit(' '.join(n for n in {heavy} if n in sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stderr.strip() == ""


ROOMS = (
    "io", "config", "cli", "audio", "models", "pitch", "content", "separation", "tts", "data", "retrieval", "voice",
    "conversion", "covers", "evaluation", "training", "live", "importers", "benchmarks", "pretraining", "jobs", "app",
)  # fmt: skip
"""Folders of the package, lowest first. Each imports only those below it, and the top level imports all of them."""
GROUND = ("errors", "version")
"""Modules at the top level that every folder may import."""


def module_name(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_name(path): path for path in FILES if "assets" not in path.parts}


def imported_modules(path):
    """Return the modules of this package that a file imports, also inside of functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rvc_lightning"):
            base = node.module.removeprefix("rvc_lightning").removeprefix(".")
            for alias in node.names:
                full = f"{base}.{alias.name}".removeprefix(".")
                yield full if full in MODULES else base


def test_every_folder_is_a_room():
    assert {name.split(".")[0] for name in MODULES if "." in name} <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_down(room):
    allowed = {*ROOMS[: ROOMS.index(room) + 1], *GROUND}
    upward = {
        f"{name} -> {other}"
        for name, path in MODULES.items()
        if name.split(".")[0] == room
        for other in imported_modules(path)
        if other.split(".")[0] not in allowed
    }
    assert upward == set()


def test_no_files_import_each_other():
    graph = {name: {other for other in imported_modules(path) if other != name} for name, path in MODULES.items()}
    # The package itself exports classes of the rooms.
    graph[""] = set()
    TopologicalSorter(graph).prepare()


PAGES = [
    "README.md",
    ".github/CHANGELOG.md",
    ".github/CONTRIBUTING.md",
    ".github/SECURITY.md",
    "rvc_lightning/README.md",
    "conf/README.md",
]


@pytest.mark.parametrize("page", PAGES)
def test_files_named_in_documents_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:rvc_lightning|conf|tests|notebooks)/[\w./-]*)`", text))
    assert [name for name in sorted(named) if "NAME" not in name and not (ROOT / name).exists()] == []


def test_map_names_every_room_and_command():
    text = (PACKAGE / "README.md").read_text(encoding="utf-8")
    assert [room for room in ROOMS if f"`{room}/`" not in text] == []
    commands = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__", *GROUND}
    assert [name for name in sorted(commands) if f"`{name}.py`" not in text] == []


def test_thread_settings_are_made_before_torch_is_imported():
    script = (
        "import os, sys; os.environ.pop('GOMP_SPINCOUNT', None); import rvc_lightning;"
        "sys.exit('torch' in sys.modules or os.environ.get('GOMP_SPINCOUNT') != '1000')"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
