"""Worker processes of data loaders."""

from __future__ import annotations

import os
import signal
import threading
import time

from rvc_lightning.io.processes import HANGUPS, INTERRUPTS

_POLL_SECONDS = 1.0


def end_with_parent(worker_id: int) -> None:
    """Kill a worker soon after its parent process exits, for any reason; a `worker_init_fn`.

    torch detects that only in a worker that is waiting for work. A worker whose result exceeds the buffer of the pipe
    waits forever for a reader, and keeps its memory and inherited locks.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_SECONDS)
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def leave_interrupts_to_parent(worker_id: int) -> None:
    """Ignore Ctrl-C and a closed terminal, then call `end_with_parent`; a `worker_init_fn`.

    A training needs its workers until it has saved its state, and these signals reach them as well. Forked workers
    inherit the handler of the training; spawned workers would end.
    """
    for number in (*INTERRUPTS, *HANGUPS):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent(worker_id)
