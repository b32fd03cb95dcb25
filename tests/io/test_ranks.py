"""Errors of spawned ranks."""

import os
import signal

import pytest
from torch.multiprocessing import ProcessRaisedException, start_processes

from rvc_lightning.errors import DatasetError, LostRankError
from rvc_lightning.io.ranks import errors_of_ranks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def fail(number, error):
    raise error


def kill_itself(number):
    os.kill(os.getpid(), signal.SIGKILL)


def test_error_of_this_package_is_raised_as_such():
    with pytest.raises(DatasetError) as raised, errors_of_ranks():
        start_processes(fail, (DatasetError("'a.wav' cannot be read: it is empty"),), start_method="fork")
    assert str(raised.value) == "'a.wav' cannot be read: it is empty"


def test_other_errors_keep_their_traceback():
    with pytest.raises(ProcessRaisedException, match="in fail"), errors_of_ranks():
        start_processes(fail, (KeyError("lr"),), start_method="fork")


def test_killed_rank_is_an_error():
    with (
        pytest.raises(LostRankError, match=r"a rank is lost: process 0 terminated with signal SIGKILL"),
        errors_of_ranks(),
    ):
        start_processes(kill_itself, start_method="fork")
