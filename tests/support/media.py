"""Media files for tests, written with PyAV."""

from fractions import Fraction

import av
import numpy as np


def buzz(seconds, sample_rate=48000, hertz=140.0):
    """Return a square wave with a peak of 0.2, float32 [N]."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    return (0.2 * np.sign(np.sin(2 * np.pi * hertz * time))).astype(np.float32)


def write_media(path, *tracks, codec="aac", sample_rate=48000, layout="mono", video_seconds=0.0, titles=()):
    """Write audio tracks, each a list of (start in seconds, samples [N] or [N, C]), and optionally a black video."""
    with path.open("wb") as file, av.open(file, "w", format=_FORMATS[path.suffix]) as container:
        # Streams cannot be added after the first packet.
        video = _add_video(container) if video_seconds else None
        streams = [container.add_stream(codec, rate=sample_rate, layout=layout) for _ in tracks]
        for stream, title in zip(streams, titles, strict=False):
            stream.metadata["title"] = title
        if video:
            _encode_video(container, video, video_seconds)
        for stream, track in zip(streams, tracks, strict=True):
            for start, samples in track:
                _encode(container, stream, round(start * sample_rate), samples)
            container.mux(stream.encode(None))


_FORMATS = {".m4a": "ipod", ".mp4": "mp4", ".aac": "adts", ".mkv": "matroska", ".webm": "webm", ".ts": "mpegts"}
_FORMATS |= {".mka": "matroska", ".mov": "mov", ".opus": "opus", ".avi": "avi", ".ogg": "ogg", ".mp3": "mp3"}


def _encode(container, stream, start, samples):
    resampler = av.AudioResampler(stream.codec_context.format.name, stream.layout.name, stream.rate)
    for first in range(0, len(samples), 960):
        planes = samples[first : first + 960].reshape(-1, stream.layout.nb_channels).T
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(planes), "fltp", stream.layout.name)
        frame.sample_rate, frame.time_base = stream.rate, Fraction(1, stream.rate)
        frame.pts = start + first
        for converted in resampler.resample(frame):
            container.mux(stream.encode(converted))


def _add_video(container):
    stream = container.add_stream("mpeg4", rate=10)
    stream.width = stream.height = 64
    stream.pix_fmt = "yuv420p"
    return stream


def _encode_video(container, stream, seconds):
    for number in range(round(10 * seconds)):
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")
        frame.pts = number
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
