"""A stub of a converter, and recordings for it."""

from types import SimpleNamespace

import golden_rule
import numpy as np

from rvc_lightning import ConversionOptions
from rvc_lightning.audio.decode import load_audio
from rvc_lightning.audio.encode import write_audio
from rvc_lightning.conversion.effect_stages import check_installed
from rvc_lightning.conversion.tasks import ConvertedBlocks
from rvc_lightning.errors import AudioError, VoiceError
from rvc_lightning.io.files import digest
from rvc_lightning.pitch.curve import read_curve

OPTIONS = ConversionOptions()


class Doubler:
    """Stub of a converter: repeats every sample, returns the first pitch of the curve, and has no speaker 9."""

    voice = SimpleNamespace(sample_rate=32000)
    trainer = SimpleNamespace(is_global_zero=True)

    def __init__(self, killed_after=None):
        self.done, self.killed_after = [], killed_after

    def check(self, options):
        check_installed(options.effects)

    def fingerprint(self, options):
        return repr(options)

    def run(self, tasks, options, sink, folder):
        for task in tasks:
            if len(self.done) == self.killed_after:
                raise KeyboardInterrupt
            try:
                sink.write(task, self.converted(task, options))
                self.done.append(task.source.name)
            except (AudioError, VoiceError) as error:
                sink.fail(task, error)

    def converted(self, task, options):
        name, (audio, _) = digest(task.source), load_audio(task.source)
        if options.speaker == 9:
            raise VoiceError("no speaker 9")
        hz = read_curve(task.options.f0_file).hz[0] if task.options.f0_file else 100
        f0_hz = np.full(11, hz, np.float32)
        return ConvertedBlocks(iter([np.repeat(audio, 2) / 2]), task.options.output_sample_rate, f0_hz, name)


def recording(path, seconds=0.1):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, golden_rule.stub_audio("folder", seconds), 16000)
    return path
