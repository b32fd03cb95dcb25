"""Recordings are identified by their content, and unchanged ones are not read again."""

import os

from preparation import speech, write

from rvc_lightning.data import recordings
from rvc_lightning.data.recordings import Recording, add_fingerprints


def test_digests_are_cached_only_while_nothing_changes(tmp_path, monkeypatch):
    write(tmp_path / "in/a.wav", speech(0.6))
    (tmp_path / "out").mkdir()
    read = []
    digest = recordings.digest
    monkeypatch.setattr(recordings, "digest", lambda path: read.append(path.name) or digest(path))

    def identify(**changes):
        read.clear()
        found = add_fingerprints([Recording(tmp_path / "in", "a.wav", "0")], tmp_path / "out", **changes)
        return found.recordings[0].folder, list(read)

    first, _ = identify()
    # The file is less than a minute old: it may change again without its times.
    assert identify() == (first, ["a.wav"])
    monkeypatch.setattr(recordings, "_SETTLED_SECONDS", -60.0)
    assert identify() == (first, ["a.wav"]) and identify() == (first, [])
    if os.name == "nt":
        # The time of the last change of the status is unknown there.
        return
    path = tmp_path / "in/a.wav"
    status, content = path.stat(), path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    # Same size, and the modification time is restored.
    changed, again = identify(update_cache=False)
    assert changed != first and again == ["a.wav"]
    (tmp_path / "out" / recordings.FINGERPRINTS_NAME).write_text("no JSON")
    assert identify() == (changed, ["a.wav"])
