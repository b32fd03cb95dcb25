"""Neither a training step nor a generator waits for its device: on a GPU, reading a value stalls the queue."""

import pytest
import torch
from stubs import make_voice, quick_config
from tiny import ADAMW, tiny_data, tiny_module, tiny_trainer, write_tiny_dataset
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from rvc_lightning.models.generators import GENERATORS

METHODS = {
    getattr(torch.Tensor, name)
    for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__")
}
OPERATORS = {
    getattr(torch.ops.aten, name)
    for name in ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique_dim", "_unique2")
}


class NoHostReads(TorchFunctionMode):
    """Reject methods that copy values to the host, and operators that need a value there."""

    class _Operators(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            by_mask = func.overloadpacket is torch.ops.aten.index and any(
                index is not None and index.dtype == torch.bool for index in args[1]
            )
            assert func.overloadpacket not in OPERATORS and not by_mask, f"{func} waits for the device"
            return func(*args, **kwargs or {})

    def __torch_function__(self, func, types, args=(), kwargs=None):
        assert func not in METHODS, f"{func} waits for the device"
        return func(*args, **kwargs or {})

    def __enter__(self):
        self._operators = self._Operators()
        self._operators.__enter__()
        return super().__enter__()

    def __exit__(self, *exception):
        super().__exit__(*exception)
        self._operators.__exit__(*exception)


@pytest.mark.parametrize(
    "read", [lambda x: x.item(), lambda x: bool(x > 0), lambda x: x.cpu(), lambda x: x[x > 0], lambda x: x.nonzero()]
)
def test_reads_are_noticed(read):
    with NoHostReads(), pytest.raises(AssertionError, match="waits for the device"):
        read(torch.ones(1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("accumulated", "training"),
    [
        (1, {}),
        (2, {"crop_frames": 12, "from_content_share": 0.5}),
        (1, {"mel_loss": "multi_scale", "gradient_clip_val": 1.0, "adversarial_from_step": 1}),
    ],
)
def test_training_step_reads_nothing(tmp_path, monkeypatch, accumulated, training):
    module = tiny_module(ADAMW, **training)
    steps, step = [], module.training_step

    def guarded(batches, batch_idx):
        with NoHostReads():
            steps.append(step(batches, batch_idx))
        return steps[-1]

    monkeypatch.setattr(module, "training_step", guarded)
    folder = write_tiny_dataset(tmp_path)
    tiny_trainer(max_steps=6, limit_val_batches=0).fit(module, tiny_data(folder, accumulate_grad_batches=accumulated))
    assert len(steps) >= 2


@pytest.mark.parametrize("name", GENERATORS)
def test_generator_reads_nothing(name):
    synthesizer = make_voice(quick_config(generator=name)).synthesizer
    config = synthesizer.config
    inputs = (
        torch.randn(1, config.latent_channels, 8),
        torch.full((1, 8), 200.0),
        torch.randn(1, config.speaker_channels, 1),
    )
    with NoHostReads(), torch.no_grad():
        assert synthesizer.generator(*inputs).shape == (1, 1, 8 * config.hop_samples)
