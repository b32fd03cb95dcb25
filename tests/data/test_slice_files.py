"""Recordings of any length are cut in blocks, with the same slices as in one piece."""

import numpy as np
import pytest
import soundfile
from cutting import cut_recording
from defaults import make_slicing
from preparation import RATE, speech_with_pauses, write

from rvc_lightning.audio.decode import decode_audio, resample
from rvc_lightning.audio.samples import collected
from rvc_lightning.data import slice_files
from rvc_lightning.data.recordings import Recording
from rvc_lightning.data.slice_files import slice_recording
from rvc_lightning.io.files import digest


@pytest.mark.parametrize(
    "changes", [{}, {"normalization": "pre"}, {"mode": "simple"}, {"highpass_hz": 0.0, "mode": "skip"}]
)
def test_long_recording_is_cut_in_blocks(tmp_path, monkeypatch, changes):
    path, slicing = write(tmp_path / "a.wav", speech_with_pauses(30.0), subtype="FLOAT"), make_slicing(**changes)
    whole = cut_recording(resample(decode_audio(path).audio, RATE, 24000), 24000, slicing)
    folders = []

    def collect_on_disk(blocks, scratch):
        folders.append(scratch)
        return collected(blocks, scratch, max_in_memory=10_000)

    monkeypatch.setattr(slice_files, "collected", collect_on_disk)
    slice_recording(Recording(tmp_path, "a.wav", "0", "a", digest=digest(path)), path, tmp_path / "out", 24000, slicing)
    assert folders == [tmp_path / "out"]
    written = sorted((tmp_path / "out").glob("*.wav"))
    assert len(written) == len(whole.slices) > 0
    for file, piece in zip(written, whole.slices, strict=True):
        np.testing.assert_array_equal(soundfile.read(file, dtype="float32")[0], piece.audio)
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".wav", ".json"}
