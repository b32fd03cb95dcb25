"""Averaged weights, overtraining, values that are not finite, and the pitch of reconstructed speech."""

import copy
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.utilities import rank_zero_only
from runs import small_data, small_trainer

from rvc_lightning.data import dataset as slices
from rvc_lightning.errors import ConfigurationError, DivergenceError
from rvc_lightning.pitch import build_pitch_extractor
from rvc_lightning.pitch.tracking import track
from rvc_lightning.training.callbacks.ema import AveragedWeights
from rvc_lightning.training.callbacks.finite import FiniteGuard
from rvc_lightning.training.callbacks.last_checkpoint import LastCheckpoint
from rvc_lightning.training.callbacks.overtraining import Overtraining
from rvc_lightning.training.callbacks.pitch_error import PitchError, pitch_error
from rvc_lightning.training.callbacks.progress import RunProgress
from rvc_lightning.training.checkpoints import CHECKPOINT_KEY, read_checkpoint
from rvc_lightning.training.export import export_checkpoint
from rvc_lightning.training.module import StepLoss
from rvc_lightning.voice.voice import Voice

# ---------------------------------------------------------------------- averaged weights


@pytest.mark.slow
def test_average_is_validated_and_exported_and_training_is_the_same(make_module, dataset, tmp_path):
    means, validated, name = [], [], "speaker_embedding.weight"

    class Watch(Callback):
        """Computes the average by its definition, from the weights of each step."""

        def on_train_batch_end(self, trainer, pl_module, *args):
            weight = pl_module.synthesizer.state_dict()[name].clone()
            n = len(means)
            decay = min(0.9, (1 + n) / (10 + n))
            means.append(weight if not means else decay * means[-1] + (1 - decay) * weight)

        def on_validation_batch_start(self, trainer, pl_module, *args):
            validated.append(pl_module.synthesizer.state_dict()[name].clone())

    plain = make_module()
    small_trainer(max_epochs=2).fit(plain, small_data(dataset))
    module, last_checkpoint = make_module(), LastCheckpoint(str(tmp_path))
    small_trainer(max_epochs=2, callbacks=[AveragedWeights(decay=0.9), Watch(), last_checkpoint]).fit(
        module, small_data(dataset)
    )
    for key, tensor in plain.state_dict().items():
        assert torch.equal(module.state_dict()[key], tensor), key
    assert len(means) == 4
    torch.testing.assert_close(validated[-1], means[-1])
    trained = module.synthesizer.state_dict()[name]
    assert (validated[-1] - trained).abs().max() > 1e-4
    exported = export_checkpoint(last_checkpoint.path, tmp_path / "voice", "v", None)
    stored = Voice.load(exported.voice).weights["emb_g.weight"]
    assert torch.equal(stored, means[-1].half())


@pytest.mark.slow
def test_averaging_can_start_in_a_resumed_run(make_module, dataset, tmp_path, caplog):
    last_checkpoint = LastCheckpoint(str(tmp_path))
    small_trainer(callbacks=[last_checkpoint]).fit(make_module(), small_data(dataset))
    trainer = small_trainer(max_epochs=2, callbacks=[AveragedWeights(decay=0.9)])
    trainer.fit(make_module(), small_data(dataset), ckpt_path=last_checkpoint.path, weights_only=True)
    assert "averaging starts from the trained ones" in caplog.text


@pytest.mark.parametrize("decay", [-0.5, 1.5, "x"])
def test_decay_out_of_range_is_rejected(decay):
    with pytest.raises(ConfigurationError, match=r"callbacks\.ema\.decay=.*choose a number from 0 to 1"):
        AveragedWeights(decay=decay)


# ---------------------------------------------------------------------- progress


def test_losses_of_conversions_are_logged_with_each_validation(caplog):
    caplog.set_level("INFO")
    metrics = {"val/mel": 0.334, "loss/mel": 0.3, "loss/content": 0.064, "loss/speaker": 0.37}
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(total_batch_idx=9))
    trainer = SimpleNamespace(
        callback_metrics=metrics, sanity_checking=False, callbacks=[], current_epoch=2, fit_loop=loop
    )
    RunProgress(refresh_every_n_steps=1).on_validation_end(trainer, None)
    assert caplog.messages == ["epoch 2, step 10: val/mel 0.334, loss/content 0.064, loss/speaker 0.370"]


# ---------------------------------------------------------------------- overtraining


class FakeTrainer:
    """The part of a trainer that the overtraining callback uses."""

    def __init__(self):
        self.callback_metrics, self.sanity_checking, self.should_stop, self.current_epoch = {}, False, False, 0
        self.strategy = self

    def reduce(self, value):
        return value


class FakeModule:
    optimizer_steps = 0
    device = torch.device("cpu")


DEFAULTS = {"monitor": "val/mel", "smoothing": 0.0, "patience": 2, "min_delta": 0.1, "action": "stop"}


def overtraining(rule="held_out", **changes):
    return Overtraining(rule=rule, **(DEFAULTS | changes))


def stops_at(callback, values, checkpoints=()):
    """Validate with these values; return the number of the validation at which the run is stopped, or None."""
    trainer, module = FakeTrainer(), FakeModule()
    trainer.callbacks = checkpoints
    for number, value in enumerate(values):
        trainer.callback_metrics["val/mel"] = torch.tensor(value)
        trainer.current_epoch, module.optimizer_steps = number, 10 * number
        callback.on_validation_end(trainer, module)
        if trainer.should_stop:
            return number
    return None


def test_stops_after_patience_checks_without_improvement(caplog):
    assert stops_at(overtraining(), [1.0, 0.8, 0.75, 0.75]) == 3  # 0.75 is not lower by min_delta
    assert "has not improved for 2 validations since epoch 1 (step 10)" in caplog.text
    assert "the best smoothed value was 0.8000, the last one is 0.7500. Training stops" in caplog.text
    assert stops_at(overtraining(), [1.0, 0.8, 0.9, 0.6, 0.7, 0.4]) is None


def test_smoothing_ignores_single_values():
    assert stops_at(overtraining(min_delta=0.0), [1.0, 0.9, 1.3, 0.95]) == 3
    values = [1.0, 1.4, 0.6, 1.2, 0.4, 1.0, 0.2]
    assert stops_at(overtraining(patience=3, min_delta=0.0, smoothing=0.5), values) is None


CLASSIC = {"smoothing": 0.987, "patience": 50, "min_delta": 0.004}
FALLING = [3 - 0.01 * number for number in range(250)]


@pytest.mark.parametrize(
    "values",
    [
        FALLING[:60],
        FALLING,
        [1.0, *FALLING],  # a low first value, to which the smoothed one returns only slowly
        [*FALLING[:20], 1000.0, *FALLING[20:]],  # a high value raises the smoothed one for hundreds of epochs
        [*FALLING[:20], float("nan"), *FALLING[20:]],
        [*FALLING[:20], float("inf"), *FALLING[20:]],
        [value + 0.5 * (number % 2) for number, value in enumerate(FALLING)],
    ],
    ids=["short", "long", "low first", "outlier", "NaN", "infinite", "zigzag"],
)
def test_smoothing_does_not_stop_falling_values(values):
    assert stops_at(overtraining(**CLASSIC), values) is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0] * 60, 50),
        (FALLING[:200] + [1.0] * 600, 600),  # the smoothed value falls towards the plateau for a long time
        (FALLING[:200] + [1.0 + 0.01 * number for number in range(200)], 280),
        ([1.0, float("nan")] * 60, 100),
    ],
    ids=["short plateau", "long plateau", "rising", "every other NaN"],
)
def test_values_that_stop_falling_stop_the_run(values, expected):
    assert stops_at(overtraining(**CLASSIC), values) == pytest.approx(expected, abs=60)


def test_warns_repeatedly_and_continues(caplog):
    assert stops_at(overtraining(action="warn"), [1.0] * 6) is None
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 2 and "Training continues" in warned[0].getMessage()


@pytest.mark.parametrize(
    ("checkpoints", "expected"),
    [
        (
            [ModelCheckpoint(monitor="val/pitch_cents")],
            "continues; the checkpoint with the best val/pitch_cents is kept",
        ),
        ([ModelCheckpoint()], "continues"),
    ],
)
def test_warning_names_the_checkpoint_that_is_kept(caplog, checkpoints, expected):
    assert stops_at(overtraining(action="warn"), [1.0] * 3, checkpoints) is None
    assert caplog.messages[0].endswith(f"Training {expected}")


def test_other_ranks_do_not_repeat_warnings(caplog, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert stops_at(overtraining(action="warn"), [1.0] * 6) is None
    assert caplog.messages == []


def test_classic_rule_compares_means_over_the_batches_of_an_epoch():
    trainer, module = FakeTrainer(), FakeModule()

    def steps(callback, *steps):
        for losses in steps:
            totals = [StepLoss("generator", torch.tensor(value), ()) for value in losses]
            other = StepLoss("mel", torch.tensor(99.0), ())
            callback.on_train_batch_end(trainer, module, {"losses": [other, *totals]}, None, 0)

    callback = overtraining("classic", patience=1, min_delta=0.004)
    for losses in ([[1.0, 3.0], [2.0]], [[1.9], [1.8], [2.0]]):  # means 2.0 and 1.9; the last batches are equal
        steps(callback, *losses)
        callback.on_train_epoch_end(trainer, module)
        assert not trainer.should_stop
    steps(callback, [0.1])
    resumed = overtraining("classic", patience=1, min_delta=0.004)
    resumed.load_state_dict(copy.deepcopy(callback.state_dict()))
    steps(resumed, [3.694])
    resumed.on_train_epoch_end(trainer, module)
    assert trainer.should_stop  # 1.897: lower, but by less than min_delta


@pytest.mark.slow
def test_overtraining_stops_a_training_and_keeps_its_best(make_module, dataset, tmp_path):
    last_checkpoint = LastCheckpoint(str(tmp_path))
    module = make_module()
    callbacks = [overtraining(patience=1, min_delta=100.0), last_checkpoint]
    small_trainer(max_epochs=50, callbacks=callbacks).fit(module, small_data(dataset))
    assert module.optimizer_steps == 4  # two epochs: a best one, and one without improvement
    assert read_checkpoint(last_checkpoint.path)[CHECKPOINT_KEY]["optimizer_steps"] == 4


@pytest.mark.parametrize(
    "changes", [{"rule": "new"}, {"action": "shout"}, {"smoothing": 1.0}, {"patience": 0}, {"min_delta": -1.0}]
)
def test_settings_out_of_range_are_rejected(changes):
    with pytest.raises(ConfigurationError, match=f"callbacks.overtraining.{next(iter(changes))}="):
        overtraining(**changes)


# ---------------------------------------------------------------------- values that are not finite


@pytest.fixture
def damaged(monkeypatch):
    """Replace slice 5, of recording 2, by NaN."""
    read = slices.SliceDataset.__getitem__

    def read_damaged(self, index):
        example = read(self, index)
        if example.id == "5":
            example = example._replace(waveform=torch.full_like(example.waveform, torch.nan))
        return example

    monkeypatch.setattr(slices.SliceDataset, "__getitem__", read_damaged)


@pytest.mark.slow
@pytest.mark.parametrize("check_every", [1, 4, 100])
def test_reports_the_first_bad_loss_and_keeps_the_last_good_checkpoint(
    make_module, dataset, tmp_path, damaged, check_every
):
    order = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer, pl_module, batches, batch_idx):
            order.extend(batch.ids[0] for batch in batches)

    last_checkpoint = LastCheckpoint(str(tmp_path), every_n_steps=1)
    data = small_data(dataset, batch_size=1, held_out=0.0, accumulate_grad_batches=2)
    module = make_module()
    pattern = r"the loss 'discriminator' became nan in step (\d+) \(epoch 0\), in the batch of the slices '5' of the "
    with pytest.raises(DivergenceError, match=pattern + r"recordings '2'\. .*resume with checkpoint=") as error:
        small_trainer(
            max_epochs=2, callbacks=[Watch(), FiniteGuard(check_every_n_steps=check_every), last_checkpoint]
        ).fit(module, data)
    bad_step = order.index("5") // 2 + 1
    assert f"in step {bad_step} " in str(error.value)
    assert bad_step > 1  # otherwise nothing would be saved
    content = read_checkpoint(last_checkpoint.path)
    assert content[CHECKPOINT_KEY]["optimizer_steps"] == bad_step - 1
    assert all(tensor.isfinite().all() for tensor in content["state_dict"].values() if tensor.is_floating_point())
    assert not any(path.name.startswith((".", "next")) for path in tmp_path.iterdir())


@pytest.mark.slow
def test_weights_that_are_not_finite_are_not_saved(make_module, dataset, tmp_path):
    class Break(Callback):
        def on_train_batch_end(self, trainer, pl_module, *args):
            with torch.no_grad():
                pl_module.synthesizer.speaker_embedding.weight[0, 0] = torch.inf

    with pytest.raises(DivergenceError, match=r"'synthesizer\.speaker_embedding\.weight' \(1 in all\) are not finite"):
        small_trainer(
            callbacks=[FiniteGuard(check_every_n_steps=100), Break(), LastCheckpoint(str(tmp_path), every_n_steps=1)]
        ).fit(make_module(), small_data(dataset, held_out=0.0))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_infinite_gradients_under_loss_scaling_are_accepted(make_module, dataset):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126)
    module = make_module()
    before = copy.deepcopy(module.state_dict())
    small_trainer(
        callbacks=[FiniteGuard(check_every_n_steps=1)], plugins=[MixedPrecision("16-mixed", "cpu", scaler)]
    ).fit(module, small_data(dataset))
    # Both steps were skipped, and the scale lowered.
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert scaler.get_scale() < 2.0**126


# ---------------------------------------------------------------------- pitch of reconstructed speech


def test_pitch_error_in_cents_and_voicing():
    target = torch.tensor([100.0, 100.0, 100.0, 0.0, 0.0, 200.0])
    f0_hz = torch.tensor([200.0, 100.0, 0.0, 0.0, 100.0, 100.0])
    error = pitch_error(f0_hz, target)
    assert float(error.cents) == pytest.approx((1200 + 0 + 1200) / 3)
    assert int(error.n_voiced) == 3
    assert float(error.voicing) == pytest.approx(2 / 6)
    silent = pitch_error(torch.zeros(3), target[:3])
    assert (float(silent.cents), int(silent.n_voiced), float(silent.voicing)) == (0.0, 0, 1.0)


def test_tracks_the_pitch_of_a_waveform_at_any_rate():
    seconds = torch.arange(24000) / 24000
    tone = sum(torch.sin(2 * np.pi * 220 * k * seconds) / k for k in range(1, 8)) * 0.2
    f0_hz = track(build_pitch_extractor("swift_f0"), tone, 24000)
    assert f0_hz.shape == (101,)
    assert float(f0_hz[10:90].median()) == pytest.approx(220, rel=0.01)


@pytest.mark.slow
def test_validation_logs_the_pitch_error_of_the_first_clips(make_module, dataset, monkeypatch):
    calls = []

    def fake(extract, waveform, sample_rate):
        calls.append(len(waveform))
        return torch.full((len(waveform) * 100 // sample_rate + 1,), 100.0)

    monkeypatch.setattr("rvc_lightning.training.callbacks.pitch_error.track", fake)
    trainer = small_trainer(callbacks=[PitchError(n_clips=3, pitch={"name": "swift_f0"})])
    trainer.fit(make_module(), small_data(dataset, batch_size=2, held_out=0.3))
    assert len(calls) == 3 and calls == sorted(calls, reverse=True)
    held_out = trainer.datamodule.held_out_rows
    longest = sorted(held_out, key=lambda row: (-row.frames, row.id))[:3]
    wanted = np.concatenate([np.load(dataset / row.f0)[: row.frames] for row in longest])
    cents = 1200 * np.abs(np.log2(100 / wanted)).mean()
    assert float(trainer.callback_metrics["val/pitch_cents"]) == pytest.approx(cents, rel=1e-4)
    assert float(trainer.callback_metrics["val/voicing_error"]) == 0


@pytest.mark.slow
def test_no_pitch_error_without_pitch_or_without_clips(make_module, dataset, monkeypatch):
    for clips, guided in ((0, True), (3, False)):
        module = make_module()
        monkeypatch.setattr(type(module.synthesizer.generator), "pitch_guided", guided)
        trainer = small_trainer(callbacks=[PitchError(n_clips=clips, pitch={"name": "swift_f0"})])
        trainer.validate(module, small_data(dataset), verbose=False)
        assert "val/mel" in trainer.callback_metrics and "val/pitch_cents" not in trainer.callback_metrics
