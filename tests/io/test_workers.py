"""Worker processes of data loaders."""

import os
import signal

import pytest
from torch.utils.data import DataLoader, Dataset

from rvc_lightning.io.workers import leave_interrupts_to_parent


class Interrupted(Dataset):
    """Sends the signals of Ctrl-C and of a closed terminal to the process that reads the first item."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index == 0:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGHUP)
        return index


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="os.kill sends no signals on Windows")
@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_workers_of_a_training_survive_its_signals(start_method):
    loader = DataLoader(
        Interrupted(),
        batch_size=None,
        num_workers=1,
        worker_init_fn=leave_interrupts_to_parent,
        multiprocessing_context=start_method,
    )
    assert list(loader) == [0, 1, 2]
