"""`python -m rvc_lightning.prepare` on the command line."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile
from configurations import compose_config
from omegaconf import OmegaConf

from rvc_lightning.data.manifest import read_header
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.training.dataset import prepare_dataset, preview_dataset


@pytest.fixture
def recordings(tmp_path):
    buzz = np.sign(np.sin(2 * np.pi * 150 * np.arange(24000) / 16000)).astype(np.float32) / 4
    for number, name in enumerate(["anna/a.wav", "ben/b.wav", "ben/draft.wav"]):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "in" / name, np.roll(buzz, number), 16000)
    return tmp_path / "in"


@pytest.mark.slow
def test_preview_writes_nothing(recordings):
    command = [sys.executable, "-m", "rvc_lightning.prepare", f"audio={recordings}", "speakers=folders",
               "include=[anna/*,ben]", "exclude=[draft*]", "slicing.noise_reduction=0.5", "preview=true"]  # fmt: skip
    done = subprocess.run(command, cwd=recordings.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for part in ("anna/a.wav", "ben/b.wav", "ben/draft.wav: excluded by exclude 'draft*'", "Nothing was written"):
        assert part in done.stderr
    assert [path.name for path in recordings.parent.iterdir()] == ["in"]


@pytest.mark.slow
def test_settings_reach_the_dataset(recordings, tmp_path):
    overrides = [f"audio={recordings}", f"paths.root={tmp_path}", "sample_rate=24k", "prepare_workers=0", "name=duo",
                 "trainer.accelerator=cpu"]  # fmt: skip
    config = compose_config(*overrides, "speakers=folders", "exclude=*t.wav", command="prepare")
    planned = preview_dataset(config)
    assert not (tmp_path / "datasets").exists()
    folder = prepare_dataset(config)
    assert read_header(folder).speakers == ["anna", "ben"] == [recording.speaker for recording in planned.recordings]
    choices = "numbered, folders, name_id_repeat, one"
    with pytest.raises(ConfigurationError, match=rf"speakers='named': choose one of: {choices}"):
        preview_dataset(compose_config(*overrides, "speakers=named", command="prepare"))


@pytest.mark.slow
def test_train_and_prepare_have_the_same_selection():
    selections = [
        {
            key: OmegaConf.to_container(compose_config(command=command))[key]
            for key in ("speakers", "include", "exclude")
        }
        for command in ("train", "prepare")
    ]
    assert selections[0] == selections[1] == {"speakers": "numbered", "include": [], "exclude": []}
