"""Standard error while system libraries open devices."""

import os
from threading import Event, Thread

from rvc_lightning.live import devices

SECONDS = 0.2


def test_two_threads_leave_standard_error_open(monkeypatch):
    before, is_second = os.fstat(2), Event()

    def import_first(*_):
        monkeypatch.setattr(devices, "import_extra", import_second)
        threads[1].start()
        is_second.wait(SECONDS)

    def import_second(*_):
        is_second.set()
        threads[0].join(SECONDS)

    monkeypatch.setattr(devices, "import_extra", import_first)
    kept = os.dup(2)
    threads = [Thread(target=devices.sounddevice) for _ in range(2)]
    threads[0].start()
    for thread in threads:
        thread.join()
    after = os.fstat(2)
    os.dup2(kept, 2)
    os.close(kept)
    assert os.path.samestat(before, after)
