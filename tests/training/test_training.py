"""Training on Lightning: clipping, schedules, resume, signals, export, and complete runs."""

import copy
import csv
import os
import shutil
import signal
from functools import partial
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import soundfile
import torch
from defaults import make_index_config
from lightning import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from runs import HOP, METADATA, Repeated, run_training, small_data, small_run, small_trainer
from systems import POSIX
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tiny import training_config

from rvc_lightning.cli.messages import silence_libraries
from rvc_lightning.cli.resolvers import DEMO_FOLDER
from rvc_lightning.config.values import plain
from rvc_lightning.data.batch import Example, collate
from rvc_lightning.data.manifest import DatasetHeader, read_header, read_manifest, write_manifest
from rvc_lightning.errors import ConfigurationError, DatasetError, RVCError, VoiceError
from rvc_lightning.pitch.scale import coarse_pitch
from rvc_lightning.retrieval import index_file
from rvc_lightning.retrieval.pairing import FEATURES_KEY, IndexOrigin
from rvc_lightning.training import networks
from rvc_lightning.training import run as workflow
from rvc_lightning.training.callbacks.last_checkpoint import LastCheckpoint, TrainingStopped
from rvc_lightning.training.callbacks.step_limit import StepLimit
from rvc_lightning.training.callbacks.throughput import Throughput
from rvc_lightning.training.checkpoints import AVERAGED_KEY, CHECKPOINT_KEY, read_checkpoint
from rvc_lightning.training.dataset import prepare_dataset
from rvc_lightning.training.export import export_checkpoint, export_index, export_voice, load_voice, read_voice
from rvc_lightning.training.module import RVCModule
from rvc_lightning.training.resume import ignored_settings, without_values
from rvc_lightning.voice.voice import Voice

pytestmark = pytest.mark.slow


def test_short_epochs_log_throughput_and_gradient_norms(make_module, dataset, tmp_path):
    """Epochs of two steps, and ten steps between two points of the curves."""
    logger, speed = CSVLogger(tmp_path, name="", version=""), Throughput(every_n_steps=10)
    module = make_module(grad_norm_every_n_steps=20)
    small_trainer(max_epochs=10, callbacks=[speed], logger=logger, log_every_n_steps=10).fit(
        module, small_data(dataset)
    )
    with (tmp_path / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for name, expected in (("throughput/seconds_per_step", ["9", "19"]), ("grad_norm/generator", ["19"])):
        assert [row["step"] for row in rows if row.get(name)] == expected
    assert all(0 < float(row["throughput/seconds_per_step"]) < 5 for row in rows if row["throughput/seconds_per_step"])


@pytest.mark.parametrize("first", [2, 5])
def test_step_limit_includes_steps_before_a_resume(make_module, dataset, tmp_path, first):
    last_checkpoint = LastCheckpoint(str(tmp_path))
    for limit, expected in ((first, first), (5, 5), (5, 5)):
        module = make_module()
        last = last_checkpoint.path if last_checkpoint.path.exists() else None
        trainer = small_trainer(max_epochs=9, callbacks=[StepLimit(limit), last_checkpoint])
        trainer.fit(module, small_data(dataset), ckpt_path=last, weights_only=True)
        assert module.optimizer_steps == expected


def test_step_limit_applies_to_modules_of_one_network():
    module, trainer = BoringModel(), small_trainer(callbacks=[StepLimit(3)], limit_val_batches=0)
    trainer.fit(module)
    assert trainer.global_step == 3


def random_batch(n_items, frames=20):
    examples = [
        Example(
            id=str(n), content=torch.randn(frames // 2, 768), f0_hz=torch.rand(frames) * 200 + 80,
            waveform=torch.rand(frames * HOP) - 0.5, frames=frames, speaker=n % 2,
        )
        for n in range(n_items)
    ]  # fmt: skip
    return examples


def run_steps(module, steps, **changes):
    loader = torch.utils.data.DataLoader(Repeated(steps, len(steps)), batch_size=None)
    small_trainer(limit_val_batches=0, **changes).fit(module, loader)
    return module


def test_step_updates_both_networks_and_clears_the_gradients(make_module):
    module = make_module()
    before = copy.deepcopy(module.state_dict())
    run_steps(module, [[collate(random_batch(2))]])
    for network in ("synthesizer", "discriminator"):
        assert any(
            not torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items() if network in name
        )
    assert all(parameter.grad is None for parameter in module.parameters())
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert module.optimizer_steps == 1


def gradient_sizes(make_module, algorithm, limit):
    """Return the norm or the largest value of the gradients of both networks in a step."""
    seen = []
    module = make_module(gradient_clip_val=limit, gradient_clip_algorithm=algorithm)

    def step(optimizer):
        optimizer.step()
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        seen.append(float(norm) if algorithm == "norm" else max(float(g.abs().max()) for g in gradients))
        optimizer.zero_grad(set_to_none=True)

    module._step = step
    torch.manual_seed(0)
    run_steps(module, [[collate(random_batch(2))]])
    assert len(seen) == 2
    return seen


@pytest.mark.parametrize(("algorithm", "limit"), [("norm", 1e-3), ("value", 1e-5)])
def test_gradients_are_clipped(make_module, algorithm, limit):
    assert max(gradient_sizes(make_module, algorithm, limit)) <= limit * 1.001


def test_limit_of_zero_clips_nothing(make_module):
    assert gradient_sizes(make_module, "norm", 0) == gradient_sizes(make_module, "norm", None)


def test_discriminator_can_start_later(make_module):
    module = make_module(adversarial_from_step=1)
    before = copy.deepcopy(module.discriminator.state_dict())
    run_steps(module, [[collate(random_batch(2))]])
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.discriminator.state_dict().items())
    module = make_module(adversarial_from_step=1)
    run_steps(module, [[collate(random_batch(2))]] * 2)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in module.discriminator.state_dict().items())


def test_offset_is_penalized_before_the_discriminator_starts(make_module):
    module = make_module()
    generated = module.generate(collate(random_batch(2)))
    shifted = generated._replace(fake=generated.fake + 0.25)
    plain, moved = (module.generator_losses(waves, adversarial=False)["offset"] for waves in (generated, shifted))
    assert float(moved) == pytest.approx(0.25, abs=float(plain) + 1e-6) and float(moved) > float(plain)
    assert float(module.weighted_sum({"offset": moved})) == pytest.approx(45 * float(moved))
    assert "offset" not in module.generator_losses(generated)


@pytest.mark.parametrize(("share", "trained"), [(0.0, "posterior_encoder"), (1.0, "text_encoder")])
def test_segments_can_be_generated_as_in_conversion(make_module, share, trained):
    module = make_module(from_content_share=share)
    generated = module.generate(collate(random_batch(2)))
    module.mel_loss(generated.real, generated.fake).backward()
    gradients = {name: weight.grad for name, weight in module.synthesizer.named_parameters()}
    updated = {name.split(".")[0] for name, gradient in gradients.items() if gradient is not None and gradient.any()}
    assert updated & {"posterior_encoder", "text_encoder"} == {trained}


def test_each_item_is_generated_from_its_recording_or_from_content(make_module):
    module, batch = make_module(), collate(random_batch(3))
    synthesizer, seen = module.synthesizer, []
    synthesizer.generator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    for chosen in ([False] * 3, [True] * 3, [False, True, False]):
        torch.manual_seed(0)
        synthesizer(batch.content.repeat_interleave(2, 1), batch.lengths, coarse_pitch(batch.f0_hz), batch.f0_hz,
                    batch.speaker, module.spectrogram_of(batch), 20, torch.tensor(chosen))  # fmt: skip
    recorded, expected, mixed = seen
    assert not torch.equal(recorded, expected)
    torch.testing.assert_close(mixed, torch.stack([recorded[0], expected[1], recorded[2]]))


def test_share_above_one_is_rejected():
    with pytest.raises(ConfigurationError, match=r"from_content_share=1\.5"):
        training_config(from_content_share=1.5)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_loss_weight_out_of_range_is_rejected(weight):
    with pytest.raises(ConfigurationError, match=r"model\.loss_weights=.*: choose finite numbers from 0 up"):
        training_config(loss_weights={"adversarial": 1.0, "features": 1.0, "mel": weight, "kl": 1.0})


def test_median_pitch_reads_at_most_five_hundred_slices(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(networks, "read_feature", lambda path, dims: read.append(path) or np.full(3, 120.0))
    assert networks.median_f0_hz(tmp_path, [SimpleNamespace(f0=f"{number}.npy") for number in range(999)]) == 120
    assert len(read) == 500 and read[-1].name == "998.npy"


def test_training_on_silence_stays_finite(make_module):
    def silent(example):
        return example._replace(f0_hz=torch.zeros(20), waveform=torch.zeros(20 * HOP))

    module = run_steps(make_module(), [[collate([silent(example) for example in random_batch(2)])] for _ in range(2)])
    assert all(parameter.isfinite().all() for parameter in module.parameters())


def test_crops_of_content_pitch_and_waveform_are_aligned(make_module):
    frames, crop = 40, 12
    ramp = torch.arange(frames, dtype=torch.float32)
    item = Example("a", ramp[::2, None].repeat(1, 768), ramp + 1, ramp.repeat_interleave(HOP), frames, 0)
    short = item._replace(frames=10)
    module = make_module(crop_frames=crop)
    for _ in range(5):
        cropped = module.crop(collate([item, short]))
        assert cropped.f0_hz.shape == (2, crop) and cropped.lengths.tolist() == [12, 10]
        first = int(cropped.f0_hz[0, 0]) - 1
        assert first % 2 == 0
        assert cropped.content[0, :, 0].tolist() == list(range(first, first + crop, 2))
        assert cropped.waveform[0, ::HOP].tolist() == list(range(first, first + crop))
        assert cropped.f0_hz[1, 0] == 1


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_other_precisions_train(make_module, dataset, precision):
    module = make_module()
    trainer = small_trainer(precision=precision)
    trainer.fit(module, small_data(dataset))
    assert all(parameter.isfinite().all() for parameter in module.parameters())
    assert float(trainer.callback_metrics["val/mel"]) > 0


def test_learning_rate_decays_once_per_epoch_across_a_resume(make_module, dataset, tmp_path):
    rates = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            rates.append((trainer.current_epoch, batch_idx, trainer.optimizers[0].param_groups[0]["lr"]))

    last_checkpoint = LastCheckpoint(str(tmp_path), every_n_epochs=1)
    small_trainer(max_epochs=2, callbacks=[last_checkpoint, Watch()]).fit(make_module(), small_data(dataset))
    module = make_module()
    small_trainer(max_epochs=4, callbacks=[Watch()]).fit(
        module, small_data(dataset), ckpt_path=last_checkpoint.path, weights_only=True
    )
    per_epoch = len(rates) // 4
    assert rates == [(epoch, index, 1e-3 * 0.5**epoch) for epoch in range(4) for index in range(per_epoch)]
    assert module.optimizer_steps == 4 * per_epoch


@pytest.mark.parametrize("speaker_lr", [0.0, 0.02])
def test_speaker_embedding_has_its_own_learning_rate_also_after_a_resume(make_module, dataset, tmp_path, speaker_lr):
    first = make_module(speaker_lr=speaker_lr)
    before = {name: value.clone() for name, value in first.synthesizer.named_parameters()}
    last_checkpoint = LastCheckpoint(str(tmp_path), every_n_epochs=1)
    small_trainer(max_epochs=1, callbacks=[last_checkpoint]).fit(first, small_data(dataset))
    changed = {name for name, value in first.synthesizer.named_parameters() if not torch.equal(value, before[name])}
    assert ("speaker_embedding.weight" in changed) == (speaker_lr > 0)
    assert changed | {"speaker_embedding.weight"} == before.keys()
    module, trainer = make_module(speaker_lr=speaker_lr), small_trainer(max_epochs=2)
    trainer.fit(module, small_data(dataset), ckpt_path=last_checkpoint.path, weights_only=True)
    names = {value: name for name, value in module.synthesizer.named_parameters()}
    rates = {names[value]: group["lr"] for group in trainer.optimizers[1].param_groups for value in group["params"]}
    assert rates.pop("speaker_embedding.weight") == speaker_lr * 0.5**2
    assert set(rates.values()) == {1e-3 * 0.5**2}


def test_resumed_run_uses_the_learning_rates_of_its_settings(make_module, dataset, tmp_path):
    last_checkpoint = LastCheckpoint(str(tmp_path), every_n_epochs=1)
    first = make_module(speaker_lr=0.02)
    small_trainer(max_epochs=1, callbacks=[last_checkpoint]).fit(first, small_data(dataset))
    rates = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            rates.append([group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups])

    module = make_module(optimizer=partial(torch.optim.AdamW, lr=4e-3), speaker_lr=0.01)
    small_trainer(max_epochs=3, callbacks=[Watch()]).fit(
        module, small_data(dataset), ckpt_path=last_checkpoint.path, weights_only=True
    )
    assert np.allclose(rates[0], [2e-3, 2e-3, 5e-3], rtol=1e-12)
    assert np.allclose(rates[-1], [1e-3, 1e-3, 2.5e-3], rtol=1e-12)


@pytest.mark.parametrize(("kill_at", "name"), [(4, "SIGTERM"), (6, "SIGTERM"), (4, "SIGHUP")])
@POSIX
def test_run_stopped_by_a_signal_resumes_with_the_next_batch(
    make_module, dataset, tmp_path, monkeypatch, kill_at, name
):
    """Also in the last step of an epoch, whose end lowers the learning rate; a closed terminal sends two signals."""
    monkeypatch.setattr("rvc_lightning.training.callbacks.last_checkpoint.discard_terminal_output", lambda: None)
    number, times = getattr(signal, name), 2 if name == "SIGHUP" else 1
    # nohup may have started the tests.
    signal.signal(number, signal.SIG_DFL)
    seen = []

    class Watch(Callback):
        def __init__(self, kill_at=None):
            self.kill_at = kill_at

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen.append((trainer.current_epoch, batch[0].ids, trainer.optimizers[0].param_groups[0]["lr"]))
            if len(seen) == self.kill_at:
                for _ in range(times):
                    os.kill(os.getpid(), number)

    settings = {"batch_size": 2, "held_out": 0.0}
    small_trainer(max_epochs=2, callbacks=[Watch()]).fit(make_module(), small_data(dataset, **settings))
    whole, seen[:] = list(seen), []
    assert len(whole) == 12

    last_checkpoint = LastCheckpoint(str(tmp_path), every_n_epochs=10)
    with pytest.raises(TrainingStopped, match=rf"{name}.*last\.ckpt"):
        small_trainer(max_epochs=2, callbacks=[Watch(kill_at), last_checkpoint]).fit(
            make_module(), small_data(dataset, **settings)
        )
    assert len(seen) == kill_at
    module = make_module()
    small_trainer(max_epochs=2, callbacks=[Watch(), last_checkpoint]).fit(
        module, small_data(dataset, **settings), ckpt_path=last_checkpoint.path, weights_only=True
    )
    assert seen == whole
    assert module.optimizer_steps == 12
    assert signal.getsignal(number) == signal.SIG_DFL


@POSIX
def test_run_that_ignores_a_closed_terminal_continues(make_module, dataset, tmp_path):
    """As with nohup."""

    class HangUp(Callback):
        def on_train_batch_start(self, *args):
            os.kill(os.getpid(), signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        callbacks = [HangUp(), LastCheckpoint(str(tmp_path))]
        small_trainer(max_epochs=1, callbacks=callbacks).fit(make_module(), small_data(dataset))
    finally:
        signal.signal(signal.SIGHUP, before)


def test_limited_epochs_resume_with_the_first_batch_of_the_next(make_module, dataset, tmp_path):
    seen = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen.append((trainer.current_epoch, batch[0].ids))

    def train(max_epochs, ckpt_path=None):
        trainer = small_trainer(
            max_epochs=max_epochs, callbacks=[Watch(), LastCheckpoint(str(tmp_path))], limit_train_batches=2
        )
        data = small_data(dataset, batch_size=2, held_out=0.0)
        trainer.fit(make_module(), data, ckpt_path=ckpt_path, weights_only=True)

    train(2)
    whole, seen[:] = list(seen), []
    train(1)
    train(2, tmp_path / "last.ckpt")
    assert len(whole) == 4 and seen == whole


def test_training_without_validation_warns_of_nothing(make_module, dataset, recwarn):
    silence_libraries()
    small_trainer().fit(make_module(), small_data(dataset, held_out=0.0))
    assert [str(warning.message) for warning in recwarn] == []


@POSIX
def test_signal_during_the_last_save_stops_the_run(make_module, dataset, tmp_path):
    class Interrupted(LastCheckpoint):
        def _save(self, trainer):
            super()._save(trainer)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TrainingStopped, match=r"SIGTERM.*last\.ckpt"):
        small_trainer(callbacks=[Interrupted(str(tmp_path))]).fit(make_module(), small_data(dataset))
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("setting", ["accumulate_grad_batches=2", "gradient_clip_val=1"])
def test_settings_of_automatic_optimization_are_rejected(tmp_path, recordings, setting):
    with pytest.raises(ConfigurationError, match=rf"trainer\.{setting}: .* use model\.{setting}"):
        workflow.check_settings(small_run(tmp_path, recordings, f"+trainer.{setting}"))


def test_settings_that_a_resumed_run_ignores_are_described(make_module, dataset, tmp_path):
    small_trainer(callbacks=[LastCheckpoint(str(tmp_path))]).fit(make_module(), small_data(dataset))
    content = without_values(torch.load(tmp_path / "last.ckpt", weights_only=True))
    assert ignored_settings(content, make_module(optimizer=partial(torch.optim.AdamW, lr=4e-3))) == ""
    changed = partial(torch.optim.AdamW, betas=[0.8, 0.99], weight_decay=0.05)
    description = "optimizer.betas was [0.9, 0.999], is [0.8, 0.99], optimizer.weight_decay was 0.01, is 0.05"
    assert ignored_settings(content, make_module(optimizer=changed)) == description


def test_checkpoint_becomes_a_voice(make_module, dataset, tmp_path):
    last_checkpoint = LastCheckpoint(str(tmp_path), every_n_epochs=1)
    module = make_module()
    small_trainer(callbacks=[last_checkpoint]).fit(module, small_data(dataset))
    exported = export_checkpoint(last_checkpoint.path, tmp_path / "voice", "anna", dataset)
    assert exported.index.is_file()
    content = torch.load(exported.voice, weights_only=True)
    assert not any("enc_q" in name for name in content["weight"])
    assert all(tensor.dtype == torch.float16 for tensor in content["weight"].values())
    assert (content["sr"], content["f0"], content["version"]) == (24000, 1, "v2")
    assert (content["embedder_model"], content["model_name"], content["step"]) == ("spectral", "anna", 2)
    assert content["dataset_length"] == "00:00:12"
    voice = Voice.load(exported.voice)
    assert voice.information["rvc_lightning"]["pitch"]["name"] == "swift_f0"
    assert voice.noise_scale == 0.3
    stored = {name.replace("weight_g", "x"): tensor for name, tensor in content["weight"].items()}
    torch.testing.assert_close(stored["emb_g.weight"].float(), module.synthesizer.speaker_embedding.weight,
                               atol=1e-3, rtol=1e-3)  # fmt: skip
    shutil.rmtree(tmp_path / "voice")
    without = export_checkpoint(last_checkpoint.path, tmp_path / "voice", "anna", tmp_path / "gone")
    assert without.index is None and without.voice.is_file()
    assert_the_same_voice_is_loaded(last_checkpoint.path, without.voice, tmp_path / "run")
    with pytest.raises(VoiceError, match="is a voice, not a checkpoint"):
        export_checkpoint(without.voice, tmp_path / "again", "anna", dataset)


def assert_the_same_voice_is_loaded(checkpoint, voice, run):
    hashes = {load_voice(path).information["content_hash"] for path in (checkpoint, voice)}
    (run / "checkpoints").mkdir(parents=True)
    with pytest.raises(VoiceError, match="no readable checkpoint"):
        load_voice(run)
    shutil.copy(checkpoint, run / "checkpoints" / "best.ckpt")
    (run / "checkpoints" / "last.ckpt").touch()
    hashes.add(load_voice(run).information["content_hash"])
    assert len(hashes) == 1


def test_index_is_exported_once_and_separately(make_module, dataset, tmp_path):
    last_checkpoint = LastCheckpoint(str(tmp_path), every_n_epochs=1)
    small_trainer(callbacks=[last_checkpoint]).fit(make_module(), small_data(dataset))
    exported = export_checkpoint(last_checkpoint.path, tmp_path / "voice", "anna", dataset)
    assert IndexOrigin.read(exported.index).features == Voice.load(exported.voice).training_info[FEATURES_KEY]
    written = exported.index.stat().st_ino
    assert export_checkpoint(last_checkpoint.path, tmp_path / "voice", "anna", dataset).index.stat().st_ino == written
    voice = exported.voice.read_bytes()
    voice_of_checkpoint = read_voice(last_checkpoint.path, "anna").voice
    flat = export_index(voice_of_checkpoint, tmp_path / "voice", dataset, index=make_index_config(kind="flat"))
    assert index_file.read_header(flat).lists is None and exported.voice.read_bytes() == voice
    other = tmp_path / "other"
    shutil.copytree(dataset, other)
    write_manifest(other, DatasetHeader(24000, METADATA["pitch"], {"name": "spin", "dim": 768}), read_manifest(dataset))
    for export in (export_voice, export_index):
        with pytest.raises(DatasetError, match="features of content=spin with 768 channels, but"):
            export(voice_of_checkpoint, tmp_path / "again", other)
    assert not (tmp_path / "again").exists()


def test_diverged_checkpoint_is_not_exported(make_module, dataset, tmp_path):
    """Other tools do not detect overflow in half precision."""
    last_checkpoint = LastCheckpoint(str(tmp_path), every_n_epochs=1)
    module = make_module()
    small_trainer(callbacks=[last_checkpoint]).fit(module, small_data(dataset))
    content = torch.load(last_checkpoint.path, weights_only=True)
    content["state_dict"]["synthesizer.speaker_embedding.weight"][0, 0] = 1e6
    torch.save(content, last_checkpoint.path)
    with pytest.raises(VoiceError, match=r"emb_g\.weight"):
        export_checkpoint(last_checkpoint.path, tmp_path / "voice", "anna", dataset)
    assert not (tmp_path / "voice").exists()


def test_training_on_recordings_exports_a_converted_voice(tmp_path, recordings, caplog):
    caplog.set_level("INFO")
    config = small_run(tmp_path, recordings)
    score = workflow.train(config)
    assert score is not None and np.isfinite(score)
    name = recordings.name
    voice = tmp_path / "voices" / name
    assert {path.name for path in voice.iterdir()} == {f"{name}.pth", f"{name}.index", f"{name}.index.json", "listen"}
    listen = sorted(path.name for path in (voice / "listen").iterdir())
    assert listen == ["01_converted.wav", "01_source.wav", "comparison.json"]
    converted, rate = soundfile.read(voice / "listen" / "01_converted.wav")
    source = soundfile.info(DEMO_FOLDER / "source" / "01.flac")
    assert rate == 24000 and len(converted) == -(-source.frames * 24000 // source.samplerate)
    assert np.abs(converted).max() > 0
    for line in ("voice:", "index:", "dataset:", "tensorboard --logdir", "Pitch correlation with", "Listen: "):
        assert line in caplog.text
    # A voice of one speaker with pitch.
    assert f"proposed_pitch_hz={Voice.load(voice / f'{name}.pth').median_f0_hz:.0f}" in caplog.text
    checkpoints = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert checkpoints == {"best.ckpt", "last.ckpt"}
    assert_everything_is_logged(tmp_path / "run" / "tensorboard", config, score)

    # A second run uses the same dataset and resumes from the first.
    caplog.clear()
    header = read_header(tmp_path / "datasets" / name)
    assert header.sample_rate == plain(config.model)["synthesizer"]["sample_rate"]
    again = small_run(tmp_path, recordings, f"checkpoint={tmp_path}/run/checkpoints/last.ckpt", "trainer.max_epochs=3")
    trainer = run_training(again)
    assert trainer.current_epoch == 3
    assert "slicing" not in caplog.text and "finding pitch" not in caplog.text


def assert_everything_is_logged(folder, config, score):
    events = EventAccumulator(str(folder), size_guidance={"audio": 0, "images": 0}).Reload()

    def steps(kind, tag):
        return [event.step for event in getattr(events, kind)(tag)]

    losses = {f"loss/{term}" for term in ("adversarial", "features", "mel", "kl", "generator", "discriminator")}
    for tag in losses | {"throughput/seconds_per_step", "throughput/audio_seconds_per_second"}:
        assert steps("Scalars", tag) == [0, 1], tag
    for tag in ("learning_rate/synthesizer", "learning_rate/discriminator", "val/mel"):
        assert steps("Scalars", tag) == [0, 1], tag
    for tag in ("grad_norm/generator", "grad_norm/discriminator"):
        assert steps("Scalars", tag) == [1], tag
    assert steps("Scalars", "val/voicing_error") == [0, 1]
    # Held-out audio beside the original at each validation, and their spectra with the pitch of both.
    for tag in ("clip0/recorded", "clip0/rebuilt"):
        assert steps("Audio", tag) == [0, 1]
        assert events.Audio(tag)[0].sample_rate == 24000
    assert steps("Images", "clip0/mel") == [0, 1]
    assert steps("Images", "dataset") == [0]
    # Values of TensorBoard's HParams tab.
    settings = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    hparams = HParamsPluginData.FromString(settings).session_start_info.hparams
    assert hparams["optimizer/lr"].number_value == config.optimizer.lr
    assert hparams["model/synthesizer/initial_channels"].number_value == 16
    assert hparams["name"].string_value == config.name
    metrics = events.summary_metadata["_hparams_/experiment"].plugin_data.content
    tags = {metric.name.tag for metric in HParamsPluginData.FromString(metrics).experiment.metric_infos}
    assert {"best/val/mel", "final/val/mel", "final/val/voicing_error"} <= tags
    assert events.Scalars("best/val/mel")[0].value == pytest.approx(score)


@pytest.mark.parametrize(
    ("monitor", "expected"),
    [("val/pitch_cents", {"final/val/mel": 0.5, "best/val/pitch_cents": 20.0}), (None, {"final/val/mel": 0.5})],
)
def test_result_is_logged_by_the_name_of_its_metric(monitor, expected):
    best = ModelCheckpoint(monitor=monitor)
    best.best_model_path, best.best_model_score = "best.ckpt", torch.tensor(20.0)
    logger = mock.create_autospec(TensorBoardLogger, instance=True)
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(total_batch_idx=3))
    metrics = {"val/mel": torch.tensor(0.5), "loss/mel": torch.tensor(9.0)}
    workflow._log_result(
        SimpleNamespace(callbacks=[best], callback_metrics=metrics, loggers=[logger], fit_loop=loop), {}
    )
    logger.log_hyperparams.assert_called_once_with({}, expected, 3)


def test_run_resumes_in_its_folder(tmp_path, recordings, caplog):
    """After a crash, with the run folder as checkpoint."""
    caplog.set_level("INFO")
    changes = ["showcase=null", "trainer.max_epochs=2", "callbacks.last.every_n_steps=1"]
    config = small_run(tmp_path, recordings, *changes)
    prepare_dataset(config)

    def crash(module, *args):
        if module.optimizer_steps == 1:
            raise EOFError

    with pytest.MonkeyPatch.context() as patch, pytest.raises(EOFError):
        patch.setattr(RVCModule, "on_train_batch_start", crash)
        run_training(config)
    checkpoints = tmp_path / "run" / "checkpoints"
    assert {path.name for path in checkpoints.iterdir()} == {"best.ckpt", "last.ckpt"}
    again = small_run(tmp_path, recordings, *changes, f'checkpoint="{tmp_path}/run"')
    trainer = run_training(again)
    assert "Resuming from" in caplog.text and "last.ckpt' at step 1" in caplog.text
    assert "Nothing was trained" not in caplog.text
    assert trainer.lightning_module.optimizer_steps == 2
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss/mel")] == [0, 1]
    assert {path.name for path in checkpoints.iterdir()} == {"best.ckpt", "last.ckpt", "previous.ckpt"}
    run_training(again)
    assert "Nothing was trained: the run has reached trainer.max_epochs=2; type a higher limit" in caplog.text


@POSIX
def test_stopped_run_logs_how_to_continue(tmp_path, recordings, caplog, monkeypatch):
    caplog.set_level("INFO")
    monkeypatch.setattr(RVCModule, "on_train_batch_start", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as end:
        run_training(small_run(tmp_path, recordings, "showcase=null"))
    assert end.value.code == 128 + signal.SIGTERM
    first, second = caplog.messages[-1].splitlines()
    assert first.endswith(f"Resume with: python -m rvc_lightning.train checkpoint={tmp_path}/run")
    assert second == f"Export the voice as it is: python -m rvc_lightning.export checkpoint={tmp_path}/run"


def test_resumed_run_keeps_its_speakers(tmp_path, recordings):
    (recordings / "ben").mkdir()
    (recordings / "11.flac").rename(recordings / "ben" / "11.flac")
    (recordings / "carla").mkdir()
    (recordings / "10.flac").rename(recordings / "carla" / "10.flac")
    changes = ["speakers=folders", "data.held_out=0", "trainer.max_epochs=1", "name=duo", "data.silent_clips=1"]
    config = small_run(tmp_path, recordings, *changes)
    run_training(config)
    metadata = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")[CHECKPOINT_KEY]["voice"]
    assert metadata["speakers"] == ["ben", "carla"]

    (recordings / "anna").mkdir()
    (recordings / "09.flac").rename(recordings / "anna" / "09.flac")
    again = small_run(tmp_path, recordings, *changes, f'checkpoint="{tmp_path}/run"')
    with pytest.raises(DatasetError, match="speakers are ben, carla, the dataset's anna, ben, carla"):
        run_training(again)


@pytest.mark.parametrize("change", ["name=spectral", "edition=1"])
def test_run_resumes_only_with_its_content_features(tmp_path, recordings, change):
    config = small_run(tmp_path, recordings, "showcase=null", "trainer.max_epochs=1")
    prepare_dataset(config)
    run_training(config)
    checkpoint = tmp_path / "run/checkpoints/last.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    (key, value), voice = change.split("="), content[CHECKPOINT_KEY]["voice"]
    place = voice["content"] if key == "name" else voice["content"]["options"]
    place[key] = int(value) if value.isdigit() else value
    torch.save(content, checkpoint)
    with pytest.raises(DatasetError, match=f"content {key} was {value}, is "):
        run_training(small_run(tmp_path, recordings, f"checkpoint={checkpoint}"))


def test_callbacks_ema_averages_the_weights(tmp_path, recordings):
    config = small_run(tmp_path, recordings, "callbacks=ema", "trainer.max_epochs=1")
    trainer = run_training(config)
    assert AVERAGED_KEY in torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert trainer.current_epoch == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["audio=null", "name=x"], "audio=FOLDER"),
        (["audio=no/such/folder"], "no/such/folder"),
        (["checkpoint=no.ckpt"], "no.ckpt"),
    ],
)
def test_missing_inputs_are_rejected(tmp_path, recordings, overrides, message):
    with pytest.raises(RVCError, match=message):
        workflow.train(small_run(tmp_path, recordings, *overrides))
    assert not (tmp_path / "voices").exists()


def test_a_dataset_without_used_slices_is_rejected(tmp_path, recordings):
    config = small_run(tmp_path, recordings, "showcase=null")
    folder = prepare_dataset(config)
    (folder / "excluded.txt").write_text("\n".join(row.audio for row in read_manifest(folder)), encoding="utf-8")
    with pytest.raises(DatasetError, match="has no slice longer than"):
        workflow.train(config)


def test_trains_without_a_logger(tmp_path, recordings):
    config = small_run(tmp_path, recordings, "logger=none", "trainer.max_epochs=1")
    trainer = run_training(config)
    assert trainer.loggers == [] and trainer.current_epoch == 1


def test_without_held_out_recordings_the_last_state_is_exported(tmp_path, recordings):
    config = small_run(tmp_path, recordings, "data.held_out=0", "showcase=null", "trainer.max_epochs=1")
    prepare_dataset(config)
    trainer = run_training(config)
    assert workflow.checkpoint_to_export(trainer).name == "last.ckpt"
    assert any(isinstance(callback, ModelCheckpoint) for callback in trainer.callbacks)
