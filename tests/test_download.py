"""The command `download`."""

import hashlib
import os
import subprocess
import sys

import pytest
import torch
from hub_server import FILE, hub_server
from huggingface_hub import constants
from stubs import make_hubert

from rvc_lightning.content import build_content_encoder
from rvc_lightning.download import format_files
from rvc_lightning.io import hub
from rvc_lightning.io.hub import HubFile, known_files

COMMAND = """
import sys
from pathlib import Path
from rvc_lightning.io import hub
hub._TABLE = Path(sys.argv.pop(1))
from rvc_lightning.download import main
main()
"""


def test_table_of_files(tmp_path):
    files = {"a/b": FILE, "c": HubFile("owner/name", "other.pth")}
    assert [line.split() for line in format_files(files, tmp_path).splitlines()[1:]] == [
        ["a/b", "no", "7.0", "kB", "MIT", "owner/name", "folder/weights.pth"],
        ["c", "no", "?", "not", "stated", "owner/name", "other.pth"],
    ]
    FILE.path_in(tmp_path).parent.mkdir(parents=True)
    FILE.path_in(tmp_path).touch()
    assert format_files(files, tmp_path).splitlines()[1].split()[:2] == ["a/b", "yes"]


@pytest.mark.slow
def test_download_a_content_encoder_for_a_machine_without_network(tmp_path, monkeypatch):
    made = make_hubert(tmp_path / "made")
    rows = ["name,repository,path,bytes,sha256,licence"]
    served = {}
    for name in ("config.json", "pytorch_model.bin"):
        content = (made / name).read_bytes()
        served[f"/owner/name/resolve/main/vec/{name}"] = content
        sha256 = hashlib.sha256(content).hexdigest()
        rows.append(f"content/contentvec/{name},owner/name,vec/{name},{len(content)},{sha256},MIT")
    rows.append("pitch/rmvpe/rmvpe.pt,owner/name,rmvpe.pt,5,,MIT")
    (tmp_path / "table.csv").write_text("\n".join(rows))

    with hub_server() as server:
        server.files |= served

        def run(*overrides):
            settings = {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0"}
            command = [sys.executable, "-c", COMMAND, str(tmp_path / "table.csv"), *overrides]
            return subprocess.run(command, cwd=tmp_path, env=os.environ | settings, capture_output=True, text=True)

        done = run("files=[contentvec,rmvpe]", "folder=usb/rvc_lightning")
        listed = run("folder=usb/rvc_lightning")
    assert done.returncode == 1
    assert "\nError: 1 of 3 file(s) could not be downloaded:\n" in done.stderr and "Traceback" not in done.stderr
    assert "pitch/rmvpe/rmvpe.pt: 'rmvpe.pt' of the hub repository 'owner/name' cannot be downloaded" in done.stderr
    assert listed.returncode == 0
    assert "Loading PyTorch" not in listed.stderr
    assert [line.split()[1] for line in listed.stdout.splitlines()[1:4]] == ["yes", "yes", "no"]

    # The machine without network.
    monkeypatch.setattr(hub, "_TABLE", tmp_path / "table.csv")
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "usb"))
    known_files.cache_clear()
    try:
        encoder = build_content_encoder(name="contentvec", version="v1")
    finally:
        known_files.cache_clear()
    assert encoder(torch.zeros(1, 3200), torch.tensor([3200])).shape[2] == encoder.dim
