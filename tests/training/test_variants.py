"""Every generator: from recordings to an exported voice that converts."""

import shutil
from functools import partial

import numpy as np
import pytest
import torch
from configurations import SMALL_DISCRIMINATOR, compose_config
from defaults import make_data
from phonetic import phonetic_network
from runs import run_training, small_run
from tiny import training_config

from rvc_lightning import Voice
from rvc_lightning.cli.resolvers import DEMO_FOLDER
from rvc_lightning.data.manifest import DatasetHeader, ManifestRow, write_manifest
from rvc_lightning.errors import ConfigurationError, DatasetError, VoiceError
from rvc_lightning.models.network_file import to_file
from rvc_lightning.training import run as workflow
from rvc_lightning.training.dataset import prepare_dataset
from rvc_lightning.training.module import RVCModule

pytestmark = pytest.mark.slow


@pytest.fixture
def recordings(tmp_path):
    folder = tmp_path / "recordings"
    folder.mkdir()
    for name in ("09", "10"):
        shutil.copy(DEMO_FOLDER / "target" / f"{name}.flac", folder)
    return folder


@pytest.fixture
def prepared(tmp_path, recordings):
    return prepare_dataset(small_run(tmp_path, recordings))


REFINEGAN = ["generator=refinegan", "discriminator=v3", "loss=multi_scale", *SMALL_DISCRIMINATOR]


DIRECT = ["model=direct", "generator=source_filter"]


@pytest.mark.parametrize(
    ("overrides", "vocoder", "pitch"),
    [
        (["generator=hifigan", "pitch=none"], "HiFi-GAN", 0),
        (["generator=mrf_hifigan"], "MRF HiFi-GAN", 1),
        (REFINEGAN, "RefineGAN", 1),
        (["generator=source_filter"], "Source-Filter", 1),
        (DIRECT, "Source-Filter", 1),
    ],
)
def test_from_recordings_to_a_voice_that_converts(tmp_path, recordings, caplog, overrides, vocoder, pitch):
    caplog.set_level("INFO")
    sizes = ["model.synthesizer.initial_channels=32", "trainer.max_epochs=1"]
    score = workflow.train(small_run(tmp_path, recordings, *sizes, *overrides))
    assert np.isfinite(score)
    # A pitch is only proposed for voices with pitch.
    assert ("proposed_pitch_hz=" in caplog.text) == bool(pitch)
    folder = tmp_path / "voices/recordings"
    content = torch.load(folder / "recordings.pth", weights_only=True)
    assert (content["vocoder"], content["f0"]) == (vocoder, pitch)
    assert any("pitch" in name for name in content["weight"]) == bool(pitch)
    assert content["rvc_lightning"]["pitch"]["name"] == ("swift_f0" if pitch else "none")
    assert Voice.load(folder / "recordings.pth").pitch_guided == bool(pitch)
    # The showcase has converted a sentence with the voice.
    assert (folder / "listen/01_converted.wav").stat().st_size > 44


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_refinegan_trains_in_other_precisions(tmp_path, recordings, prepared, precision):
    sizes = ["model.synthesizer.initial_channels=32", "trainer.max_epochs=1", "+trainer.limit_train_batches=1"]
    config = small_run(tmp_path, recordings, *sizes, *REFINEGAN, f"precision={precision}", "logger=none")
    trainer = run_training(config)
    assert all(parameter.isfinite().all() for parameter in trainer.lightning_module.parameters())
    assert float(trainer.callback_metrics["val/mel"]) > 0


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_losses_of_conversions_in_other_precisions(tmp_path, recordings, prepared, precision):
    limits = ["trainer.max_epochs=1", "+trainer.limit_train_batches=1"]
    config = small_run(
        tmp_path, recordings, *limits, *DIRECT, "loss=conversion", f"precision={precision}", "logger=none"
    )
    trainer = run_training(config)
    assert all(parameter.isfinite().all() for parameter in trainer.lightning_module.parameters())
    assert (
        0 < float(trainer.callback_metrics["loss/speaker"]) < 2 and float(trainer.callback_metrics["loss/content"]) > 0
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["pitch=none"], "generator=hifigan"),
        (["generator=refinegan", "model.synthesizer.initial_channels=24"], "multiple of 16"),
        (["discriminator=v3", "model.segment_frames=1"], "segment_frames=1"),
        (["data.batch_size=0"], "batch_size=0"),
        (["model=direct", "generator=hifigan_nsf"], "only generator=source_filter supports it, not hifigan_nsf"),
        ([*DIRECT, "model.from_content_share=0.5"], "from_content_share=0.5: with .*model=direct"),
        ([*DIRECT, "model.checkpoint_activations=generator"], "choose none or all"),
        (["model.loss_weights.speaker=3"], "speaker=3.0: losses of conversions require model.synthesizer.variational"),
        (
            [*DIRECT, "content=spectral", "model.loss_weights.content=3"],
            "content=3.0: .* require content=phonetic content.edition=4",
        ),
        (["preparation.content_speeds=[1]"], r"content_speeds=\[1\]: choose a list of numbers from 0.5 to 2"),
    ],
)
def test_contradiction_is_rejected_before_preparation(tmp_path, recordings, overrides, message):
    with pytest.raises(ConfigurationError, match=message):
        workflow.train(small_run(tmp_path, recordings, *overrides))
    assert not (tmp_path / "datasets").exists()


def test_refinegan_experiment_sets_generator_discriminator_and_losses():
    model = compose_config("+experiment=refinegan").model
    assert (model.synthesizer.generator, model.mel_loss) == ("refinegan", "multi_scale")
    assert model.loss_weights.mel == 15 and len(model.discriminator.resolutions) == 3


@pytest.mark.parametrize("segment_frames", [24, 25, 40])
def test_slices_without_room_for_a_segment_are_not_used(tmp_path, segment_frames):
    """Other tools accept clips of 38 frames for segments of 40 frames at 32 kHz."""
    rows = [
        ManifestRow(id=str(n), recording=str(n), speaker=0, sample_rate=32000, audio="a", f0="f", content="c",
                    samples=320 * n, frames=n, seconds=n / 100)
        for n in range(segment_frames - 3, segment_frames + 4)
    ]  # fmt: skip
    write_manifest(tmp_path, DatasetHeader(32000, {}, {}), rows)
    data = make_data(tmp_path, segment_frames=segment_frames, held_out=0.0)
    data.setup()
    kept = [row.frames for row in data.training_rows]
    assert kept and max(kept) == segment_frames + 3
    for frames in kept:
        # Frames that content covers, two at a time, without exceeding the audio (SPECIFICATION.md, section 8.3).
        assert min(frames, 2 * ((160 * frames - 80) // 320)) >= segment_frames


@pytest.fixture
def make_module(tiny_synthesizer, tiny_discriminator):
    def make(**training):
        config = training_config(**training)
        decay = partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.5)
        return RVCModule(tiny_synthesizer, tiny_discriminator, config, optimizer=torch.optim.AdamW, scheduler=decay)

    return make


def test_validation_metric_does_not_depend_on_the_mel_loss(make_module):
    """Runs are compared by val/mel, so it has one scale with any loss."""
    single, several = make_module(mel_loss="single"), make_module(mel_loss="multi_scale")
    real, fake = torch.rand(2, 1, 4800), torch.rand(2, 1, 4800)
    assert torch.equal(single.mel_of(real), several.mel_of(real))
    assert float(single.mel_loss(real, fake)) != pytest.approx(float(several.mel_loss(real, fake)), rel=0.1)
    # Both kinds keep the same entries in a checkpoint.
    assert single.state_dict().keys() == several.state_dict().keys()


def test_features_that_no_voice_can_store_are_rejected_before_training(tmp_path, recordings):
    torch.save(to_file(phonetic_network(channels=8, n_blocks=1, bottleneck=60)), tmp_path / "encoder.pt")
    config = small_run(tmp_path, recordings, "content=phonetic", f"content.path={tmp_path}/encoder.pt")
    with pytest.raises(VoiceError, match="100 channels"):
        workflow.train(config)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_training_without_recordings_leaves_no_run_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="nothing to train on"):
        workflow.train(small_run(tmp_path, tmp_path / "empty"))
    assert not (tmp_path / "run").exists()
