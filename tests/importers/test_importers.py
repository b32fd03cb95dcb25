"""Experiment folders of the peers: their slices and features become a dataset, their pair a checkpoint."""

import numpy as np
import pytest
import torch
from commanding import command
from configurations import composed
from peers import write_experiment, write_training_pair
from runs import FACTS, data_of, trainer_for
from stubs import quick_config

from rvc_lightning.config.values import plain
from rvc_lightning.data.dataset import SliceDataset
from rvc_lightning.data.manifest import read_header, read_manifest
from rvc_lightning.errors import DatasetError, VoiceError
from rvc_lightning.importers.experiment import import_dataset, read_config
from rvc_lightning.importers.pair import (
    Pair,
    discriminator_of,
    newest_pair,
    save_as_checkpoint,
    settings_of,
    synthesizer_of,
)
from rvc_lightning.models import DiscriminatorConfig, Synthesizer, SynthesizerConfig
from rvc_lightning.training.checkpoints import read_checkpoint
from rvc_lightning.training.networks import build_module
from rvc_lightning.voice.rvc_format import config_from_list, name_from_file

GAMMA = 0.999875


@pytest.fixture
def sizes():
    return quick_config(speaker_count=109)


@pytest.fixture
def discriminator():
    return DiscriminatorConfig.from_values(plain(composed("discriminator=tiny").model.discriminator))


@pytest.fixture
def experiment(tmp_path, sizes):
    folder = tmp_path / "logs" / "anna"
    folder.mkdir(parents=True)
    write_experiment(folder, sizes)
    return folder


def test_a_dataset_without_computing_or_copying_anything(experiment, tmp_path):
    dataset = tmp_path / "datasets" / "anna"
    taken = import_dataset(experiment, dataset)
    rows = list(read_manifest(dataset))
    assert len(rows) == 8 and len({row.id for row in rows}) == 8 and not taken.skipped
    # Whole recordings are held out, so slices must know theirs.
    assert {row.recording for row in rows} == {"0_0", "0_1", "0_2", "mute8000"}
    assert sorted(path.name for path in dataset.iterdir()) == ["dataset.json", "manifest.jsonl", "report.json"]
    header = read_header(dataset)
    assert header.sample_rate == 8000 and header.content["name"] == "contentvec" and header.content["dim"] == 768
    example = SliceDataset(dataset, rows, 900)[0]
    np.testing.assert_array_equal(example.content.numpy(), np.load(experiment / "extracted" / "0_0_0.npy"))
    assert example.frames == 48


def test_the_folder_may_have_moved_since_its_list_was_written(experiment, tmp_path, sizes):
    lines = (experiment / "filelist.txt").read_text()
    (experiment / "filelist.txt").write_text(lines.replace("logs/anna/", "D:\\rvc\\logs\\bob\\").replace("s/0", "s\\0"))
    moved = experiment.rename(experiment.with_name("carla"))
    assert len(import_dataset(moved, tmp_path / "dataset").rows) == 8


@pytest.mark.parametrize(("method", "name"), [("rmvpe", "rmvpe"), ("fcpe", "fcpe"), ("crepe-tiny", "crepe_tiny")])
def test_the_method_in_the_folder_name_is_the_pitch_extractor(experiment, tmp_path, method, name):
    (experiment / "f0_voiced").rename(experiment / f"f0_{method}_voiced")
    lines = (experiment / "filelist.txt").read_text()
    (experiment / "filelist.txt").write_text(lines.replace("f0_voiced", f"f0_{method}_voiced"))
    assert import_dataset(experiment, tmp_path / "dataset").header.pitch["name"] == name


def test_without_pitch_every_slice_is_unvoiced(tmp_path, sizes):
    folder = tmp_path / "logs" / "anna"
    folder.mkdir(parents=True)
    write_experiment(folder, sizes, pitch=False)
    dataset = tmp_path / "dataset"
    import_dataset(folder, dataset)
    example = SliceDataset(dataset, list(read_manifest(dataset)), 900)[0]
    assert example.frames == 48 and not example.f0_hz.any()


def test_what_is_left_out_is_named(experiment, tmp_path):
    (experiment / "extracted" / "0_0_1.npy").unlink()
    np.save(experiment / "extracted" / "0_1_0.npy", np.full((24, 768), np.nan, dtype=np.float32))
    (experiment / "sliced_audios" / "0_1_1.wav").write_bytes(b"RIFF")
    np.save(experiment / "extracted" / "0_2_0.npy", np.array([{"a": 1}]), allow_pickle=True)
    with (experiment / "filelist.txt").open("a") as stream:
        stream.write("what|is|this\n")
    taken = import_dataset(experiment, tmp_path / "dataset")
    reasons = {file.path.split("/")[-1]: file.reason for file in taken.skipped}
    assert len(taken.rows) == 4
    assert "extracted/0_0_1.npy" in reasons["0_0_1.wav"] and "NaN" in reasons["0_1_0.wav"]
    assert reasons.keys() == {"0_0_1.wav", "0_1_0.wav", "0_1_1.wav", "0_2_0.wav", "filelist.txt, line 9"}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no experiment folder"),
        (lambda folder: (folder / "config.json").write_text("{"), "no JSON"),
        (lambda folder: (folder / "filelist.txt").unlink(), "no filelist.txt"),
        (lambda folder: (folder / "filelist.txt").write_text("a|b|0\n"), "no usable line"),
    ],
)
def test_folders_that_are_none(experiment, tmp_path, spoil, message):
    spoil(experiment)
    with pytest.raises(DatasetError, match=message):
        import_dataset(experiment, tmp_path / "dataset")
    assert not (tmp_path / "dataset" / "manifest.jsonl").exists()


def taken_over(experiment, tmp_path, sizes, discriminator, **pair):
    made = write_training_pair(experiment, sizes, discriminator, **pair)
    newest = newest_pair(experiment)
    blocks = read_config(experiment)
    assert synthesizer_of(newest) == sizes
    name, found = discriminator_of(newest)
    assert name == "tiny" and found == discriminator
    path = tmp_path / "taken_over.ckpt"
    save_as_checkpoint(newest, sizes, discriminator, blocks, FACTS, path)
    return made, path


def test_weights_optimizers_epoch_and_rate_are_those_of_the_pair(experiment, tmp_path, sizes, discriminator):
    made, path = taken_over(experiment, tmp_path, sizes, discriminator, epoch=40, steps=3)
    saved = read_checkpoint(path)
    assert saved["epoch"] == 40
    for place, (letter, prefix) in enumerate((("D", "discriminator."), ("G", "synthesizer."))):
        network, optimizer = made[letter]
        for name, tensor in network.state_dict().items():
            assert torch.equal(saved["state_dict"][prefix + name], tensor)
        theirs, ours = optimizer.state_dict(), saved["optimizer_states"][place]
        assert ours["state"].keys() == theirs["state"].keys()
        for number, moments in theirs["state"].items():
            assert torch.equal(ours["state"][number]["exp_avg"], moments["exp_avg"])
            assert torch.equal(ours["state"][number]["exp_avg_sq"], moments["exp_avg_sq"])
            assert ours["state"][number]["step"] == 3
        assert ours["param_groups"][0]["lr"] == pytest.approx(1e-4 * GAMMA**40, rel=1e-12)


def test_training_goes_on_in_the_next_epoch(experiment, tmp_path, sizes, discriminator):
    dataset = tmp_path / "dataset"
    taken = import_dataset(experiment, dataset)
    _, path = taken_over(experiment, tmp_path, sizes, discriminator, epoch=40, steps=3)
    overrides = [f"model.synthesizer.{key}={value}".replace(" ", "") for key, value in changed(sizes).items()]
    config = composed("discriminator=tiny", "model.segment_frames=8", *overrides)
    module = build_module(config, taken.header, FACTS, min_speaker_rows=109)
    rates, steps = [], []
    step = module.training_step

    def watched(batches, batch_idx):
        rates.append(module.optimizers()[0].param_groups[0]["lr"])
        step(batches, batch_idx)
        steps.append(module.optimizer_steps)

    module.training_step = watched
    trainer = trainer_for(max_epochs=42)
    trainer.fit(module, data_of(dataset, held_out=0.0), ckpt_path=path, weights_only=True)
    assert trainer.current_epoch == 42
    assert steps == [4, 5, 6, 7]
    assert rates == pytest.approx([1e-4 * GAMMA**40] * 2 + [1e-4 * GAMMA**41] * 2, rel=1e-9)


def changed(sizes):
    return {
        key: value
        for key, value in vars(sizes).items()
        if key not in ("generator", "content_dim", "speaker_count") and key != "resblock_dilations"
    } | {"resblock_dilations": [[1]]}


def test_the_newest_is_the_one_of_the_latest_epoch_whatever_the_names(experiment, sizes, discriminator):
    write_training_pair(experiment, sizes, discriminator, epoch=7, name="2333333")
    write_training_pair(experiment, sizes, discriminator, epoch=12, name="480")
    assert newest_pair(experiment).generator_path.name == "G_480.pth"


def test_halves_of_different_epochs_are_refused(experiment, sizes, discriminator):
    write_training_pair(experiment, sizes, discriminator, epoch=7)
    old = (experiment / "D_2333333.pth").read_bytes()
    write_training_pair(experiment, sizes, discriminator, epoch=8)
    (experiment / "D_2333333.pth").write_bytes(old)
    with pytest.raises(VoiceError, match=r"epoch 8, 'D_2333333\.pth' of epoch 7"):
        newest_pair(experiment)


def test_a_pair_without_optimizers_says_how_to_start_from_it(experiment, tmp_path, sizes, discriminator):
    write_training_pair(experiment, sizes, discriminator, epoch=7)
    for letter in "GD":
        path = experiment / f"{letter}_2333333.pth"
        content = torch.load(path, weights_only=True)
        del content["optimizer"]
        torch.save(content, path)
    pair = newest_pair(experiment)
    with pytest.raises(VoiceError, match="pretrained=files"):
        save_as_checkpoint(pair, sizes, discriminator, read_config(experiment), FACTS, tmp_path / "a.ckpt")
    assert not (tmp_path / "a.ckpt").exists()


def test_moments_that_are_none_are_refused(experiment, tmp_path, sizes, discriminator):
    write_training_pair(experiment, sizes, discriminator, epoch=7)
    pair = newest_pair(experiment)
    del next(iter(pair.generator["optimizer"]["state"].values()))["exp_avg"]
    with pytest.raises(VoiceError, match=r"cannot be gone on with.*pretrained=files"):
        save_as_checkpoint(pair, sizes, discriminator, read_config(experiment), FACTS, tmp_path / "a.ckpt")


def test_without_a_pair_there_is_none(experiment):
    assert newest_pair(experiment) is None


def test_settings_that_make_the_same_networks():
    stock = plain(composed("sample_rate=48k").model.synthesizer)
    assert settings_of(SynthesizerConfig.from_values(stock)) == ["sample_rate=48k", "generator=hifigan_nsf"]
    other = SynthesizerConfig.from_values(stock | {"n_layers": 4, "resblock_dilations": [[1, 2], [1], [1, 3]]})
    assert settings_of(other)[2:] == [
        "model.synthesizer.n_layers=4",
        "model.synthesizer.resblock_dilations=[[1,2],[1],[1,3]]",
    ]
    values = plain(composed(*settings_of(other)).model.synthesizer)
    assert SynthesizerConfig.from_values(values) == other


def test_the_peers_own_checkpoint(golden, tmp_path, discriminator, no_noise):
    """Written by the tool itself after one step: weights speak as there, and every moment finds its parameter."""
    facts = golden.table("checkpoint_G")
    sizes = config_from_list(
        facts["config"], content_dim=768, vocoder="HiFi-GAN", pitch_guided=True, speaker_count=facts["config"][15]
    )
    content = torch.load(golden.path("checkpoints/G_2333333.pth"), weights_only=True)
    write_training_pair(tmp_path, quick_config(), discriminator, epoch=content["iteration"])
    judge = torch.load(tmp_path / "D_2333333.pth", weights_only=True)
    pair = Pair(golden.path("checkpoints/G_2333333.pth"), tmp_path / "D_2333333.pth", content, judge)
    save_as_checkpoint(pair, sizes, discriminator, {}, FACTS, tmp_path / "taken_over.ckpt")
    saved = read_checkpoint(tmp_path / "taken_over.ckpt")
    assert saved["epoch"] == facts["iteration"] == 3

    synthesizer = Synthesizer(sizes)
    prefix = "synthesizer."
    synthesizer.load_state_dict(
        {name.removeprefix(prefix): tensor for name, tensor in saved["state_dict"].items() if name.startswith(prefix)}
    )
    arrays = golden.arrays("checkpoint_G")
    lengths = torch.tensor([arrays["phone"].shape[1]])
    out = synthesizer.infer(arrays["phone"], lengths, arrays["pitch"], arrays["pitchf"], arrays["sid"])
    torch.testing.assert_close(out, arrays["infer_out"], atol=1e-4, rtol=0)

    names = list(content["model"])
    parameters = (name for name, _ in synthesizer.named_parameters())
    ours = dict(zip(parameters, saved["optimizer_states"][1]["state"].values(), strict=True))
    for number, moments in content["optimizer"]["state"].items():
        assert torch.equal(ours[name_from_file(names[number])]["exp_avg"], moments["exp_avg"])


def go_on_of(ended):
    """The command that a takeover ends with, without what Hydra needs not."""
    assert (ended.status, "Traceback" in ended.told) == (0, False), ended.told
    line = next(line for line in ended.told.splitlines() if line.startswith("go on with:"))
    return line.removeprefix("go on with: python -m rvc_lightning.train ").split()


def test_the_command_says_how_to_go_on(experiment, sizes, discriminator, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_training_pair(experiment, sizes, discriminator, epoch=7)
    settings = go_on_of(command("importers", f"folder={experiment}"))
    assert {"name=anna", "content=contentvec", "content.version=v2", "discriminator=tiny"} <= set(settings)
    assert settings[-1] == "checkpoint=datasets/anna/taken_over.ckpt"
    made = SynthesizerConfig.from_values(plain(composed(*settings).model)["synthesizer"])
    assert made.sample_rate == sizes.sample_rate and made.upsample_rates == sizes.upsample_rates
    assert read_checkpoint(tmp_path / "datasets/anna/taken_over.ckpt")["rvc_lightning"]["voice"]["name"] == "anna"


def test_the_command_says_how_to_begin_where_there_is_no_pair(experiment, sizes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = go_on_of(command("importers", f"folder={experiment}"))
    assert settings[-1] == "pretrained=official"
    made = SynthesizerConfig.from_values(plain(composed(*settings).model)["synthesizer"])
    assert (made.sample_rate, made.upsample_rates) == (sizes.sample_rate, sizes.upsample_rates)
