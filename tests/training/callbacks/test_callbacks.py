"""Averaged weights, overtraining, values that are not finite, and the pitch of rebuilt speech."""

import copy
import logging

import numpy as np
import pytest
import torch
from lightning import Callback
from lightning.pytorch.plugins import MixedPrecision
from runs import data_of, trainer_for
from small_networks import tiny_discriminator, tiny_synthesizer

from rvc_lightning.data import dataset as slices
from rvc_lightning.errors import ConfigurationError, DivergenceError
from rvc_lightning.pitch import build_pitch_extractor
from rvc_lightning.pitch.tracking import track
from rvc_lightning.training.callbacks.ema import AveragedWeights
from rvc_lightning.training.callbacks.finite import FiniteGuard
from rvc_lightning.training.callbacks.last_checkpoint import LastCheckpoint
from rvc_lightning.training.callbacks.overtraining import Overtraining
from rvc_lightning.training.callbacks.pitch_error import PitchError, pitch_error
from rvc_lightning.training.checkpoints import CHECKPOINT_KEY, read_checkpoint
from rvc_lightning.training.export import export_checkpoint
from rvc_lightning.training.module import StepLoss
from rvc_lightning.voice.voice import Voice

__all__ = ["tiny_discriminator", "tiny_synthesizer"]  # fixtures

# ---------------------------------------------------------------------- averaged weights


def test_the_average_is_judged_and_exported_and_training_does_not_notice(make_module, dataset, tmp_path):
    means, judged, name = [], [], "speaker_embedding.weight"

    class Watch(Callback):
        """The average as its definition says, from the weights of each step."""

        def on_train_batch_end(self, trainer, pl_module, *args):
            weight = pl_module.synthesizer.state_dict()[name].clone()
            n = len(means)
            decay = min(0.9, (1 + n) / (10 + n))
            means.append(weight if not means else decay * means[-1] + (1 - decay) * weight)

        def on_validation_batch_start(self, trainer, pl_module, *args):
            judged.append(pl_module.synthesizer.state_dict()[name].clone())

    plain = make_module()
    trainer_for(max_epochs=2).fit(plain, data_of(dataset))
    module, keep = make_module(), LastCheckpoint(str(tmp_path))
    trainer_for(max_epochs=2, callbacks=[AveragedWeights(0.9), Watch(), keep]).fit(module, data_of(dataset))
    for key, tensor in plain.state_dict().items():
        assert torch.equal(module.state_dict()[key], tensor), key
    assert len(means) == 4
    torch.testing.assert_close(judged[-1], means[-1])
    trained = module.synthesizer.state_dict()[name]
    assert (judged[-1] - trained).abs().max() > 1e-4
    exported = export_checkpoint(keep.path, tmp_path / "voice", "v", None)
    stored = Voice.load(exported.voice).weights["emb_g.weight"]
    assert torch.equal(stored, means[-1].half())


def test_averaging_can_begin_late(make_module, dataset, tmp_path, caplog):
    keep = LastCheckpoint(str(tmp_path))
    trainer_for(callbacks=[keep]).fit(make_module(), data_of(dataset))
    trainer = trainer_for(max_epochs=2, callbacks=[AveragedWeights(0.9)])
    trainer.fit(make_module(), data_of(dataset), ckpt_path=keep.path, weights_only=True)
    assert "average begins with the trained ones" in caplog.text


@pytest.mark.parametrize("decay", [0, 1, 1.5])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(ConfigurationError, match="decay"):
        AveragedWeights(decay)


# ---------------------------------------------------------------------- overtraining


class FakeTrainer:
    """What the overtraining callback asks of a trainer."""

    def __init__(self):
        self.callback_metrics, self.sanity_checking, self.should_stop, self.current_epoch = {}, False, False, 0
        self.strategy = self

    def reduce(self, value):
        return value


class FakeModule:
    optimizer_steps = 0
    device = torch.device("cpu")


def watcher(rule="held_out", action="stop", smoothing=0.0, patience=2, min_delta=0.1):
    return Overtraining(rule, "val/mel", smoothing=smoothing, patience=patience, min_delta=min_delta, action=action)


def judge(callback, values):
    """Feeds one figure a validation; returns at which of them the run was stopped."""
    trainer, module = FakeTrainer(), FakeModule()
    for number, value in enumerate(values):
        trainer.callback_metrics["val/mel"] = torch.tensor(value)
        trainer.current_epoch, module.optimizer_steps = number, 10 * number
        callback.on_validation_end(trainer, module)
        if trainer.should_stop:
            return number
    return None


def test_stops_after_so_many_checks_without_a_new_best(caplog):
    assert judge(watcher(), [1.0, 0.8, 0.75, 0.75]) == 3  # 0.75 is not lower by min_delta
    assert "no new best for 2 validations" in caplog.text
    assert "it was 0.8000 at epoch 1 (step 10), and is 0.7500 now. Training stops" in caplog.text
    assert judge(watcher(), [1.0, 0.8, 0.9, 0.6, 0.7, 0.4]) is None


def test_smoothing_takes_the_edge_off():
    figures = [1.0, 1.4, 0.6, 1.2, 0.4, 1.0, 0.2]
    assert judge(watcher(patience=2, min_delta=0.0), [1.0, 0.9, 1.3, 0.95]) == 3
    assert judge(watcher(patience=3, min_delta=0.0, smoothing=0.5), figures) is None


def test_warns_once_a_while_and_goes_on(caplog):
    assert judge(watcher(action="warn"), [1.0] * 6) is None
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 2 and "Training goes on" in warned[0].getMessage()


def test_the_classic_rule_looks_at_means_over_the_batches_of_an_epoch():
    trainer, module = FakeTrainer(), FakeModule()

    def steps(callback, *steps):
        for losses in steps:
            seen = [StepLoss("generator", torch.tensor(value), ()) for value in losses]
            other = StepLoss("mel", torch.tensor(99.0), ())
            callback.on_train_batch_end(trainer, module, {"losses": [other, *seen]}, None, 0)

    callback = watcher("classic", patience=1, min_delta=0.004)
    for losses in ([[1.0, 3.0], [2.0]], [[1.9], [1.8], [2.0]]):  # means 2.0 and 1.9; the last batches are alike
        steps(callback, *losses)
        callback.on_train_epoch_end(trainer, module)
        assert not trainer.should_stop
    steps(callback, [0.1])
    resumed = watcher("classic", patience=1, min_delta=0.004)
    resumed.load_state_dict(copy.deepcopy(callback.state_dict()))
    steps(resumed, [3.694])
    resumed.on_train_epoch_end(trainer, module)
    assert trainer.should_stop  # 1.897: fallen, but by less than min_delta


def test_overtraining_stops_a_training_and_keeps_its_best(make_module, dataset, tmp_path):
    keep = LastCheckpoint(str(tmp_path))
    callback = Overtraining("held_out", "val/mel", smoothing=0.0, patience=1, min_delta=100.0, action="stop")
    module = make_module()
    trainer_for(max_epochs=50, callbacks=[callback, keep]).fit(module, data_of(dataset))
    assert module.optimizer_steps == 4  # two epochs: a best, and one without
    assert read_checkpoint(keep.path)[CHECKPOINT_KEY]["optimizer_steps"] == 4


@pytest.mark.parametrize(
    "changes", [{"rule": "new"}, {"action": "shout"}, {"smoothing": 1.0}, {"patience": 0}, {"min_delta": -1.0}]
)
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(ConfigurationError, match=str(next(iter(changes.values())))):
        watcher(**changes)


# ---------------------------------------------------------------------- values that are not finite


@pytest.fixture
def damaged(monkeypatch):
    """Makes slice 5, of recording 2, NaN."""
    read = slices.SliceDataset.__getitem__

    def read_damaged(self, index):
        example = read(self, index)
        if example.id == "5":
            example = example._replace(waveform=torch.full_like(example.waveform, torch.nan))
        return example

    monkeypatch.setattr(slices.SliceDataset, "__getitem__", read_damaged)


@pytest.mark.parametrize("check_every", [1, 4, 100])
def test_names_the_first_bad_loss_and_keeps_the_last_good_checkpoint(
    make_module, dataset, tmp_path, damaged, check_every
):
    order = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer, pl_module, batches, batch_idx):
            order.extend(batch.ids[0] for batch in batches)

    keep = LastCheckpoint(str(tmp_path), every_n_steps=1)
    data = data_of(dataset, batch_size=1, held_out=0.0, accumulate_grad_batches=2)
    module = make_module()
    pattern = r"the loss 'discriminator' became nan in step (\d+) \(epoch 0\), in the batch of the slices '5' of the "
    with pytest.raises(DivergenceError, match=pattern + r"recordings '2'\. .*go on with checkpoint=") as error:
        trainer_for(max_epochs=2, callbacks=[Watch(), FiniteGuard(check_every), keep]).fit(module, data)
    bad_step = order.index("5") // 2 + 1
    assert f"in step {bad_step} " in str(error.value)
    assert bad_step > 1  # else nothing would have been kept
    content = read_checkpoint(keep.path)
    assert content[CHECKPOINT_KEY]["optimizer_steps"] == bad_step - 1
    assert all(tensor.isfinite().all() for tensor in content["state_dict"].values() if tensor.is_floating_point())
    assert not any(path.name.startswith((".", "next")) for path in tmp_path.iterdir())


def test_weights_that_are_not_finite_are_not_saved(make_module, dataset, tmp_path):
    class Break(Callback):
        def on_train_batch_end(self, trainer, pl_module, *args):
            with torch.no_grad():
                pl_module.synthesizer.speaker_embedding.weight[0, 0] = torch.inf

    with pytest.raises(DivergenceError, match=r"'synthesizer\.speaker_embedding\.weight' \(1 in all\) are not finite"):
        trainer_for(callbacks=[FiniteGuard(100), Break(), LastCheckpoint(str(tmp_path), every_n_steps=1)]).fit(
            make_module(), data_of(dataset, held_out=0.0)
        )
    assert list(tmp_path.iterdir()) == []


def test_infinite_gradients_under_loss_scaling_are_no_fault(make_module, dataset):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126)
    module = make_module()
    before = copy.deepcopy(module.state_dict())
    trainer_for(callbacks=[FiniteGuard(1)], plugins=[MixedPrecision("16-mixed", "cpu", scaler)]).fit(
        module, data_of(dataset)
    )
    # Both steps were skipped, and the scale lowered.
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert scaler.get_scale() < 2.0**126


# ---------------------------------------------------------------------- pitch of rebuilt speech


def test_pitch_error_in_cents_and_voicing():
    wanted = torch.tensor([100.0, 100.0, 100.0, 0.0, 0.0, 200.0])
    heard = torch.tensor([200.0, 100.0, 0.0, 0.0, 100.0, 100.0])
    error = pitch_error(heard, wanted)
    assert float(error.cents) == pytest.approx((1200 + 0 + 1200) / 3)
    assert int(error.n_voiced) == 3
    assert float(error.voicing) == pytest.approx(2 / 6)
    silent = pitch_error(torch.zeros(3), wanted[:3])
    assert (float(silent.cents), int(silent.n_voiced), float(silent.voicing)) == (0.0, 0, 1.0)


def test_tracks_the_pitch_of_a_waveform_at_any_rate():
    seconds = torch.arange(24000) / 24000
    tone = sum(torch.sin(2 * np.pi * 220 * k * seconds) / k for k in range(1, 8)) * 0.2
    f0_hz = track(build_pitch_extractor("swift_f0"), tone, 24000)
    assert f0_hz.shape == (101,)
    assert float(f0_hz[10:90].median()) == pytest.approx(220, rel=0.01)


def test_validation_logs_the_pitch_error_of_the_first_clips(make_module, dataset, monkeypatch):
    calls = []

    def fake(extract, waveform, sample_rate):
        calls.append(len(waveform))
        return torch.full((len(waveform) * 100 // sample_rate + 1,), 100.0)

    monkeypatch.setattr("rvc_lightning.training.callbacks.pitch_error.track", fake)
    trainer = trainer_for(callbacks=[PitchError(3, {"name": "swift_f0"})])
    trainer.fit(make_module(), data_of(dataset, batch_size=2, held_out=0.3))
    assert len(calls) == 3 and calls == sorted(calls, reverse=True)
    held_out = trainer.datamodule.held_out_rows
    longest = sorted(held_out, key=lambda row: (-row.frames, row.id))[:3]
    wanted = np.concatenate([np.load(dataset / row.f0)[: row.frames] for row in longest])
    cents = 1200 * np.abs(np.log2(100 / wanted)).mean()
    assert float(trainer.callback_metrics["val/pitch_cents"]) == pytest.approx(cents, rel=1e-4)
    assert float(trainer.callback_metrics["val/voicing_error"]) == 0


def test_no_pitch_error_of_a_voice_without_pitch_or_with_none_asked_for(make_module, dataset, monkeypatch):
    for clips, guided in ((0, True), (3, False)):
        module = make_module()
        monkeypatch.setattr(type(module.synthesizer.generator), "pitch_guided", guided)
        trainer = trainer_for(callbacks=[PitchError(clips, {"name": "swift_f0"})])
        trainer.validate(module, data_of(dataset), verbose=False)
        assert "val/mel" in trainer.callback_metrics and "val/pitch_cents" not in trainer.callback_metrics
