"""Import of slices and features of an experiment folder."""

import numpy as np
import pytest
from other_tools import write_experiment

from rvc_lightning.data.dataset import SliceDataset
from rvc_lightning.data.manifest import read_header, read_manifest
from rvc_lightning.errors import DatasetError
from rvc_lightning.importers.experiment import import_experiment


def test_slices_and_features_are_used_in_place(experiment, tmp_path):
    dataset = tmp_path / "datasets" / "anna"
    imported = import_experiment(experiment, dataset).dataset
    rows = list(read_manifest(dataset))
    assert len(rows) == 8 and len({row.id for row in rows}) == 8 and not imported.skipped
    # Validation holds out whole recordings.
    assert {row.recording for row in rows} == {"0_0", "0_1", "0_2", "mute8000"}
    assert sorted(path.name for path in dataset.iterdir()) == ["dataset.json", "manifest.jsonl", "report.json"]
    header = read_header(dataset)
    assert header.sample_rate == 8000 and header.content["name"] == "contentvec" and header.content["dim"] == 768
    example = SliceDataset(dataset, rows, 900)[0]
    np.testing.assert_array_equal(example.content.numpy(), np.load(experiment / "extracted" / "0_0_0.npy"))
    assert example.frames == 48


def test_moved_folder_is_imported(experiment, tmp_path, sizes):
    lines = (experiment / "filelist.txt").read_text(encoding="utf-8")
    (experiment / "filelist.txt").write_text(lines.replace("logs/anna/", "D:\\rvc\\logs\\bob\\").replace("s/0", "s\\0"))
    moved = experiment.rename(experiment.with_name("carla"))
    assert len(import_experiment(moved, tmp_path / "dataset").dataset.rows) == 8


@pytest.mark.parametrize(("method", "name"), [("rmvpe", "rmvpe"), ("fcpe", "fcpe"), ("crepe-tiny", "crepe_tiny")])
def test_pitch_extractor_follows_from_the_folder_name(experiment, tmp_path, method, name):
    (experiment / "f0_voiced").rename(experiment / f"f0_{method}_voiced")
    lines = (experiment / "filelist.txt").read_text(encoding="utf-8")
    (experiment / "filelist.txt").write_text(lines.replace("f0_voiced", f"f0_{method}_voiced"))
    assert import_experiment(experiment, tmp_path / "dataset").dataset.header.pitch["name"] == name


def test_slices_without_pitch_are_unvoiced(tmp_path, sizes):
    folder = tmp_path / "logs" / "anna"
    folder.mkdir(parents=True)
    write_experiment(folder, sizes, pitch=False)
    dataset = tmp_path / "dataset"
    import_experiment(folder, dataset)
    example = SliceDataset(dataset, list(read_manifest(dataset)), 900)[0]
    assert example.frames == 48 and not example.f0_hz.any()


def test_unusable_slices_are_reported(experiment, tmp_path):
    (experiment / "extracted" / "0_0_1.npy").unlink()
    np.save(experiment / "extracted" / "0_1_0.npy", np.full((24, 768), np.nan, dtype=np.float32))
    (experiment / "sliced_audios" / "0_1_1.wav").write_bytes(b"RIFF")
    np.save(experiment / "extracted" / "0_2_0.npy", np.array([{"a": 1}]), allow_pickle=True)
    with (experiment / "filelist.txt").open("a") as stream:
        stream.write("what|is|this\n")
    imported = import_experiment(experiment, tmp_path / "dataset").dataset
    reasons = {file.path.split("/")[-1]: file.reason for file in imported.skipped}
    assert len(imported.rows) == 4
    assert "extracted/0_0_1.npy" in reasons["0_0_1.wav"] and "NaN" in reasons["0_1_0.wav"]
    assert reasons.keys() == {"0_0_1.wav", "0_1_0.wav", "0_1_1.wav", "0_2_0.wav", "what"}
    assert reasons["what"].startswith("line 9: ")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda folder: (folder / "config.json").unlink(),
            "No such file or directory: '.*config.json'; choose the folder",
        ),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be imported: Expecting"),
        (lambda folder: (folder / "filelist.txt").unlink(), "No such file or directory: '.*filelist.txt'"),
        (lambda folder: (folder / "filelist.txt").write_text("a|b|0\n"), "no usable line"),
        (
            lambda folder: (folder / "config.json").write_text(
                (folder / "config.json").read_text(encoding="utf-8").replace("0.999875", '"fast"')
            ),
            "could not convert string to float: 'fast'",
        ),
    ],
)
def test_invalid_folders_are_rejected(experiment, tmp_path, spoil, message):
    spoil(experiment)
    with pytest.raises(DatasetError, match=message):
        import_experiment(experiment, tmp_path / "dataset")
    assert not (tmp_path / "dataset" / "manifest.jsonl").exists()


@pytest.mark.parametrize("speaker", ["109", "1000000000", "9" * 5000, "-1", "²"])
def test_speakers_outside_the_table_are_reported(experiment, tmp_path, speaker):
    lines = (experiment / "filelist.txt").read_text(encoding="utf-8").splitlines()
    lines[0] = lines[0].removesuffix("0") + speaker
    (experiment / "filelist.txt").write_text("\n".join(lines), encoding="utf-8")
    imported = import_experiment(experiment, tmp_path / "dataset").dataset
    assert len(imported.rows) == 7 and len(imported.skipped) == 1
    assert imported.header.speakers == ["0"]
