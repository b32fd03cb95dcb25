"""Compare our FCPE and CREPE with the packages torchfcpe and torchcrepe on a folder of recordings.

    pip install --no-deps torchfcpe torchcrepe einops local-attention hyper-connections resampy
    python tests/parity/pitch.py FOLDER [--seconds 60] [--trackers fcpe crepe_tiny crepe]

For every tracker: share of frames within 50 cents where both are voiced, largest difference, share of frames with the
same voicing, and speed on one core in seconds of audio per second. A measurement, not collected by pytest.
The packages import torchaudio without using it here; if it cannot be imported, an empty module replaces it.
"""

import argparse
import importlib
import sys
import time
import types
from pathlib import Path

import numpy as np
import torch

from rvc_lightning.audio.decode import load_audio
from rvc_lightning.audio.discovery import discover_audio
from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.pitch import build_pitch_extractor
from rvc_lightning.pitch.base import measure

FCPE_THRESHOLD = 0.006


def stand_in_for_torchaudio():
    try:
        importlib.import_module("torchaudio")
    except (ImportError, OSError):
        package, transforms = types.ModuleType("torchaudio"), types.ModuleType("torchaudio.transforms")
        transforms.Resample = package.transforms = None
        sys.modules |= {"torchaudio": package, "torchaudio.transforms": transforms}


def reference_fcpe():
    model = importlib.import_module("torchfcpe").spawn_bundled_infer_model("cpu")

    def track(wav16k):
        wave = torch.from_numpy(wav16k)[None, :, None]
        return model.infer(wave, SAMPLE_RATE, "local_argmax", FCPE_THRESHOLD)[0, :, 0].numpy()

    return track


def reference_crepe(size):
    torchcrepe = importlib.import_module("torchcrepe")
    torchcrepe.convert.dither = lambda cents: cents

    def track(wav16k):
        f0_hz, periodicity = torchcrepe.predict(
            torch.from_numpy(wav16k)[None], SAMPLE_RATE, 160, 50, 1100, size, batch_size=512, return_periodicity=True
        )
        periodicity, f0_hz = torchcrepe.filter.median(periodicity, 3), torchcrepe.filter.mean(f0_hz, 3)
        return torch.where(periodicity < 0.1, 0.0, f0_hz)[0].numpy()

    return track


TRACKERS = {
    "fcpe": (reference_fcpe, {"threshold": FCPE_THRESHOLD}),
    "crepe_tiny": (lambda: reference_crepe("tiny"), {}),
    "crepe": (lambda: reference_crepe("full"), {}),
}


def timed(track, waves):
    start = time.process_time()
    tracks = np.concatenate([track(wave) for wave in waves])
    return tracks, sum(map(len, waves)) / SAMPLE_RATE / (time.process_time() - start)


def compare(name, waves):
    make_reference, options = TRACKERS[name]
    tracker = build_pitch_extractor(name, **options)
    with torch.inference_mode():
        ours_hz, our_speed = timed(lambda wave: measure(tracker, wave), waves)
        theirs_hz, their_speed = timed(make_reference(), waves)
    both = (ours_hz > 0) & (theirs_hz > 0)
    cents = np.abs(1200 * np.log2(ours_hz[both] / theirs_hz[both]))
    sys.stdout.write(
        f"{name:12} within 50 cents {(cents <= 50).mean():.4%}, largest {cents.max():.3f} cents,"
        f" same voicing {((ours_hz > 0) == (theirs_hz > 0)).mean():.4%}, {len(ours_hz)} frames;"
        f" speed {our_speed:.2f} x real time, theirs {their_speed:.2f} x\n"
    )


def recordings(folder, seconds):
    """Return recordings at 16 kHz, evenly spread over the folder, up to the given total length."""
    paths = [folder / path for path in discover_audio(folder).recordings]
    waves, left = [], seconds
    for path in paths[:: max(1, len(paths) // 16)]:
        wave = load_audio(path, SAMPLE_RATE)[0][: round(left * SAMPLE_RATE)]
        waves.append(wave)
        left -= len(wave) / SAMPLE_RATE
        if left <= 0:
            break
    return waves


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--trackers", nargs="+", choices=TRACKERS, default=list(TRACKERS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    stand_in_for_torchaudio()
    waves = recordings(arguments.folder, arguments.seconds)
    for name in arguments.trackers:
        compare(name, waves)


if __name__ == "__main__":
    main()
