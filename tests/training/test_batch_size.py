"""data.batch_size=auto: the largest batch that fits, with the same slices per step."""

from types import SimpleNamespace

import pytest
import torch
from configurations import compose_config
from tiny import tiny_data, tiny_module, write_tiny_dataset

from rvc_lightning.errors import ConfigurationError, OutOfMemoryError
from rvc_lightning.training import batch_size
from rvc_lightning.training.batch_size import choose_batch_size
from rvc_lightning.training.callbacks.ema import AveragedWeights
from rvc_lightning.training.module import RVCModule


@pytest.fixture
def choose(tmp_path, monkeypatch):
    """Choose the batch for steps of 4 slices, when batches above a size do not fit; return sizes tried and chosen."""
    write_tiny_dataset(tmp_path)
    config = compose_config("trainer.accelerator=cpu", "data.batch_size=auto", "data.step_slices=4")

    def choose(fits=4, used_bytes=lambda size: 0, available=10**12):
        tried = []

        def take_steps(config, module, batches):
            size = len(batches[0].ids)
            tried.append((size, len(batches)))
            if size > fits:
                raise OutOfMemoryError("full")
            return used_bytes(size)

        monkeypatch.setattr(batch_size, "_take_steps", take_steps)
        monkeypatch.setattr(batch_size, "_host_memory_used", lambda: 0)
        monkeypatch.setattr(batch_size.psutil, "virtual_memory", lambda: SimpleNamespace(available=available))
        data = tiny_data(tmp_path, batch_size="auto", step_slices=4)
        return tried, choose_batch_size(config, tiny_module(), data)

    return choose


@pytest.mark.parametrize(("fits", "chosen", "parts"), [(1, 1, 4), (3, 2, 2), (9, 4, 1)])
def test_largest_divisor_of_the_step_that_fits_is_chosen(choose, fits, chosen, parts):
    tried, found = choose(fits)
    assert found == {"data.batch_size": chosen, "model.accumulate_grad_batches": parts}
    assert tried == [(1, 4), (2, 2), (4, 1)][: len(tried)]


def test_batch_that_would_exceed_the_host_memory_is_not_tried(choose):
    tried, found = choose(used_bytes=lambda size: 300 * size, available=1000)
    assert tried == [(1, 4), (2, 2)] and found["data.batch_size"] == 2


def test_single_slice_that_does_not_fit_is_an_error(choose):
    with pytest.raises(OutOfMemoryError, match="full"):
        choose(fits=0)


def test_longest_batch_repeats_slices_of_a_small_dataset(tmp_path):
    write_tiny_dataset(tmp_path, n_slices=2)
    data = tiny_data(tmp_path, batch_size="auto", held_out=0.0)
    data.setup()
    assert data.longest_batch(3).lengths.tolist() == [17, 17, 12]


@pytest.mark.slow
def test_probe_leaves_the_module_unchanged_and_measures_memory(tmp_path):
    write_tiny_dataset(tmp_path)
    config = compose_config("trainer.accelerator=cpu", "data.batch_size=auto")
    module, data = tiny_module(), tiny_data(tmp_path, batch_size="auto", step_slices=2)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert choose_batch_size(config, module, data) == {"data.batch_size": 2, "model.accumulate_grad_batches": 1}
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module.optimizer_steps == 0
    assert batch_size._take_steps(config, module, [data.longest_batch(1)]) > 10**6


@pytest.mark.slow
def test_probe_includes_the_discriminator_and_the_averaged_weights(tmp_path, monkeypatch):
    write_tiny_dataset(tmp_path)
    config = compose_config("trainer.accelerator=cpu", "data.batch_size=auto", "callbacks=ema", run=str(tmp_path))
    data, seen = tiny_data(tmp_path, batch_size="auto", step_slices=2), []
    discriminator_loss = RVCModule.discriminator_loss

    def loss(module, generated):
        seen.append([type(callback) for callback in module.trainer.callbacks])
        return discriminator_loss(module, generated)

    monkeypatch.setattr(RVCModule, "discriminator_loss", loss)
    data.setup()
    batch_size._take_steps(config, tiny_module(adversarial_from_step=14000), [data.longest_batch(1)])
    assert len(seen) == 2 and AveragedWeights in seen[0]


def test_unknown_word_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match=r"data\.batch_size='big': choose a whole number .* or one of: auto"):
        tiny_data(tmp_path, batch_size="big")
