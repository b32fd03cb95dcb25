"""Processes of data loaders."""

from __future__ import annotations

import os
import signal
import threading
import time

_SECONDS = 1.0


def end_with_parent(worker_id: int) -> None:
    """Ends a worker soon after the process that started it, however that has ended; a `worker_init_fn`.

    torch looks after that while a worker waits for work. One whose result is too long for the pipe waits for ever for
    somebody to read it, and keeps the memory and the locks that it has inherited.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS)
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()
