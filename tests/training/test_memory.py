"""Accumulation, activation checkpointing, compilation, errors of memory, and cached slices."""

import copy
import weakref
from itertools import chain, islice

import pytest
import torch
from configurations import compose_config
from lightning import Callback
from runs import Repeated, noise_batch
from tiny import SGD, tiny_data, tiny_module, tiny_trainer, write_tiny_dataset
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rvc_lightning.cli.command import errors_as_exit_status
from rvc_lightning.config.values import instantiate
from rvc_lightning.data.batch import collate
from rvc_lightning.data.buckets import LengthBucketSampler
from rvc_lightning.data.datamodule import StepCollator
from rvc_lightning.data.dataset import CachedSlices, SliceDataset
from rvc_lightning.data.manifest import DatasetHeader, read_manifest
from rvc_lightning.errors import ConfigurationError, OutOfMemoryError
from rvc_lightning.training.callbacks.last_checkpoint import LastCheckpoint
from rvc_lightning.training.config import CHECKPOINTED
from rvc_lightning.training.module import frozen
from rvc_lightning.training.networks import build_module

pytestmark = pytest.mark.slow


def weights_after(steps, **training):
    module = tiny_module(SGD, **training)
    loader = torch.utils.data.DataLoader(Repeated(steps, len(steps)), batch_size=None)
    tiny_trainer(limit_val_batches=0).fit(module, loader)
    return module.state_dict()


def assert_close(weights, expected):
    for name, tensor in expected.items():
        torch.testing.assert_close(weights[name], tensor, atol=1e-5, rtol=0)
    start = tiny_module(SGD).state_dict()
    assert max(float((expected[name] - tensor).abs().max()) for name, tensor in start.items()) > 1e-3


# ------------------------------------------------------------------ accumulation


@pytest.mark.parametrize("sizes", [[3, 3], [4, 2], [5, 1], [2, 2, 2]])
def test_accumulating_unequal_batches_equals_one_large_batch(sizes, no_noise):
    """The KL loss is a mean over frames, the others are over slices; 6 slices of 26 down to 11 frames."""
    torch.manual_seed(1)
    steps = [noise_batch(6, first_frames=26) for _ in range(2)]
    once = weights_after([[collate(step)] for step in steps])
    split = [[collate(part) for part in split_by(step, sizes)] for step in steps]
    assert_close(weights_after(split), once)


def split_by(items, sizes):
    rest = iter(items)
    return [list(islice(rest, size)) for size in sizes]


def test_remainder_of_an_epoch_is_a_step(tmp_path):
    """13 slices in steps of 8: the second step has 5 of them, in batches of 4 and 1."""
    seen = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer, pl_module, batches, batch_idx):
            seen.append([len(batch.ids) for batch in batches])

    write_tiny_dataset(tmp_path, 13)
    module = tiny_module(SGD)
    data = tiny_data(tmp_path, accumulate_grad_batches=2, held_out=0.0)
    tiny_trainer(callbacks=[Watch()]).fit(module, data)
    assert sorted(seen) == [[4, 1], [4, 4]] and module.optimizer_steps == 2
    assert all(parameter.grad is None for parameter in module.parameters())


def test_limit_of_frames_splits_batches_within_the_same_step(tmp_path, no_noise):
    write_tiny_dataset(tmp_path)
    settings = {"accumulate_grad_batches": 2, "held_out": 0.0}
    unlimited, limited = tiny_module(SGD), tiny_module(SGD)
    tiny_trainer().fit(unlimited, tiny_data(tmp_path, **settings))
    tiny_trainer().fit(limited, tiny_data(tmp_path, max_batch_frames=120, **settings))
    assert_close(limited.state_dict(), unlimited.state_dict())


def test_batches_do_not_exceed_the_limit_of_frames():
    items = noise_batch(6, first_frames=26)
    batches = StepCollator(batch_size=4, max_frames=50)(items)
    assert [len(batch.ids) for batch in batches] == [1, 2, 2, 1]
    assert all(batch.f0_hz.numel() <= 50 for batch in batches)
    assert [len(batch.ids) for batch in StepCollator(batch_size=4, max_frames=5)(items)] == [1] * 6
    with pytest.raises(ConfigurationError, match="max_batch_frames=0"):
        instantiate(compose_config("data.max_batch_frames=0").data, "data")


# ------------------------------------------------------------------ activations


class LiveBytes(TorchDispatchMode):
    """Measures the peak memory of all tensors."""

    def __init__(self):
        super().__init__()
        self.live, self.now, self.peak = set(), 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        outcome = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(outcome):
            if isinstance(tensor, torch.Tensor):
                self.add(tensor.untyped_storage())
        return outcome

    def add(self, storage):
        key, n_bytes = storage._cdata, storage.nbytes()
        if key not in self.live:
            self.live.add(key)
            self.now += n_bytes
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.remove, key, n_bytes)

    def remove(self, key, n_bytes):
        self.live.discard(key)
        self.now -= n_bytes


def gradients_and_peak(parts):
    """Return the gradients of both networks and the peak memory, with seeded noise."""
    module, batch = tiny_module(SGD, checkpoint_activations=parts, segment_frames=16), collate(noise_batch(4, 20))
    module.configure_model()
    torch.manual_seed(5)
    with LiveBytes() as live:
        generated = module.generate(batch)
        module.discriminator_loss(generated).backward()
        with frozen(module.discriminator):
            module.weighted_sum(module.generator_losses(generated)).backward()
    return {name: parameter.grad for name, parameter in module.named_parameters()}, live.peak


def test_activation_checkpointing_gives_the_same_gradients_with_less_memory():
    gradients, peaks = {}, {}
    for parts in CHECKPOINTED:
        torch.manual_seed(2)
        gradients[parts], peaks[parts] = gradients_and_peak(parts)
    for parts in ("generator", "all"):
        for name, gradient in gradients["none"].items():
            torch.testing.assert_close(gradients[parts][name], gradient, atol=0, rtol=0)
    assert peaks["all"] < peaks["generator"] < 0.9 * peaks["none"]


def test_copy_recomputes_its_own_activations():
    """Averaged weights are a copy of the networks."""
    module = tiny_module(SGD, checkpoint_activations="all")
    module.configure_model()
    copied, waveform = copy.deepcopy(module.discriminator), torch.randn(1, 1, 960)
    before = module.discriminator(waveform)[0].score
    with torch.no_grad():
        for name, parameter in copied.named_parameters():
            # Except for the directions of weights, which are normalized.
            if "original1" not in name:
                parameter.zero_()
        assert float(copied(waveform)[0].score.abs().max()) == 0
    torch.testing.assert_close(module.discriminator(waveform)[0].score, before)


def test_unknown_part_is_rejected():
    config = compose_config("model.checkpoint_activations=some")
    header = DatasetHeader(config.model.synthesizer.sample_rate, {}, {"dim": 768})
    with pytest.raises(ConfigurationError, match="none, generator, all"):
        build_module(config, header, {})


# ------------------------------------------------------------------ compilation


def test_nothing_is_recompiled_after_two_epochs(monkeypatch, tmp_path):
    """With batches of several sizes, slices of many lengths, and validation."""
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: setattr(
        self, "_compiled_call_impl", torch.compile(self._call_impl, backend=backend)))  # fmt: skip
    torch.compiler.reset()
    write_tiny_dataset(tmp_path)
    counts = []

    class Count(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            counts.append(len(compiled))

    module = tiny_module(SGD, compile=True)
    names = list(module.state_dict())
    tiny_trainer(max_epochs=4, callbacks=[Count()]).fit(module, tiny_data(tmp_path, batch_size=3, max_batch_frames=150))
    assert counts[0] > 0 and counts[1] == counts[3]
    assert list(module.state_dict()) == names
    torch.compiler.reset()


# ------------------------------------------------------------------ out of memory


ERRORS = {
    "device": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "host": RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried"),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_out_of_memory_error_contains_advice(error, monkeypatch, tmp_path, caplog):
    write_tiny_dataset(tmp_path)
    last_checkpoint, module = LastCheckpoint(str(tmp_path), every_n_epochs=1), tiny_module(SGD)
    generate = module.generate

    def full(batch):
        if module.optimizer_steps == 6:
            raise error
        return generate(batch)

    monkeypatch.setattr(module, "generate", full)

    @errors_as_exit_status()
    def train():
        data = tiny_data(tmp_path, accumulate_grad_batches=2)
        tiny_trainer(max_epochs=9, callbacks=[last_checkpoint], enable_checkpointing=True).fit(module, data)

    with pytest.raises(SystemExit) as end:
        train()
    assert end.value.code == 1
    message = caplog.records[-1].getMessage()
    for part in ("a batch of 4 slices of up to", "data.batch_size=2", "model.accumulate_grad_batches=", "crop_frames",
                 "checkpoint_activations=all", str(error).splitlines()[0]):  # fmt: skip
        assert part in message
    saved = torch.load(last_checkpoint.path, weights_only=True)
    assert 0 < saved["rvc_lightning"]["optimizer_steps"] <= 6


def test_other_errors_are_raised_unchanged(monkeypatch):
    module = tiny_module(SGD)
    monkeypatch.setattr(module, "generate", lambda batch: torch.zeros(2) @ torch.zeros(3))
    loader = torch.utils.data.DataLoader(Repeated([[collate(noise_batch())]], 1), batch_size=None)
    with pytest.raises(RuntimeError, match="size") as raised:
        tiny_trainer(limit_val_batches=0).fit(module, loader)
    assert not isinstance(raised.value, OutOfMemoryError)


@pytest.mark.parametrize("num_replicas", [1, 2])
def test_first_batch_of_a_run_needs_the_most_memory(num_replicas):
    lengths = torch.randint(40, 900, (203,), generator=torch.Generator().manual_seed(0)).tolist()

    def epoch(number):
        ranks = []
        for rank in range(num_replicas):
            sampler = LengthBucketSampler(lengths, 4, [100, 300], num_replicas=num_replicas, rank=rank, seed=1)
            sampler.set_epoch(number)
            ranks.append(list(sampler))
        return [list(chain.from_iterable(step)) for step in zip(*ranks, strict=True)]

    def frames(step):
        return len(step) * max(lengths[index] for index in step)

    first = epoch(0)
    assert frames(first[0]) == max(map(frames, first)) and first == epoch(0)
    assert len({index for step in first for index in step}) == len(lengths)
    assert any(frames(epoch(number)[0]) < max(map(frames, epoch(number))) for number in (1, 2, 3))


# ------------------------------------------------------------------ slices in memory


def test_cached_slices_equal_those_on_disk(tmp_path):
    write_tiny_dataset(tmp_path)
    on_disk = SliceDataset(tmp_path, list(read_manifest(tmp_path)), 40)
    cached = CachedSlices(on_disk)
    for path in tmp_path.glob("*.wav"):
        path.unlink()
    assert len(cached) == 16 and cached.waveform.values.is_shared()
    with pytest.raises(ConfigurationError, match="none, memory"):
        tiny_data(tmp_path, cache="disk")
    write_tiny_dataset(tmp_path)
    for index in range(len(cached)):
        for value, expected in zip(cached[index], on_disk[index], strict=True):
            assert torch.equal(value, expected) if isinstance(value, torch.Tensor) else value == expected


@pytest.mark.parametrize("num_workers", [0, 2])
def test_training_from_cached_slices_is_the_same(tmp_path, num_workers, no_noise):
    write_tiny_dataset(tmp_path)
    weights = []
    for cache in ("none", "memory"):
        module = tiny_module(SGD)
        tiny_trainer().fit(module, tiny_data(tmp_path, cache=cache, num_workers=num_workers))
        weights.append(module.state_dict())
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=0, rtol=0)
