"""Wrong settings on the command line are one line and exit status 1, and nothing is written."""

import re

import pytest
from commanding import list_tree, run_command, single_error
from hostile_recordings import speech_like
from stubs import make_voice, quick_config

from rvc_lightning.audio.encode import write_audio

pytestmark = pytest.mark.slow

CONVERT = "voice=anna.pth input=in output=out trainer.accelerator=cpu num_workers=0"
PREPARE = "audio=in prepare_workers=0 trainer.accelerator=cpu"
TRAIN = f"{PREPARE} pretrained=none model=tiny sample_rate=24k_light discriminator=tiny hydra.run.dir=run"
EVALUATE = "voice=anna.pth audio=in trainer.accelerator=cpu metrics=[]"
STREAM = "voice=anna.pth trainer.accelerator=cpu"
APP = "voices=. trainer.accelerator=cpu port=0"

WRONG = [
    # Errors of Hydra.
    ("prepare", "audio", "'audio' is not a setting; settings are NAME=VALUE"),
    ("prepare", "--audio in", "unknown flag '--audio'; settings are typed as audio=VALUE, see --help"),
    ("convert", "--f0-file=in", "unknown flag '--f0-file'; settings are typed as f0_file=VALUE"),
    (
        "train",
        "trainer.accelerator=cpu hydra.run.dir=run",
        "'datasets/voice' is not a prepared dataset: type audio=FOL",
    ),
    ("prepare", "audio in", "'audio' is not a setting; settings are NAME=VALUE, see --help"),
    ("prepare", "audio=my in", "'in' is not a setting; .* values with spaces need quotes: 'audio=my in'"),
    ("prepare", "audio= in", "'in' is not a setting; type audio=in, without spaces around '='"),
    ("train", "name=x optimizer.lr = 1", "'optimizer.lr' is not a setting; type optimizer.lr=1, without spaces"),
    ("prepare", "include=[1", r"include=\[1: a bracket is not closed; type 'include=\[1\]'"),
    ("prepare", "audio='x", "audio='x: a quotation mark or a comma is out of place; type audio=x"),
    ("prepare", "prepare_workers=2,", "prepare_workers=2,: a quotation mark or a comma is out of place; type .*=2"),
    ("prepare", "slicing=(a)", r"slicing=\(a\): text with special characters needs quotes; type 'slicing=\"\(a\)\"'"),
    ("prepare", "slicing=x,y", "slicing=x,y: choose one of them; to start one run for each value, add --multirun"),
    ("convert", "transpose_semitones=1,5", "a decimal number needs a point: transpose_semitones=1.5; .* --multirun"),
    ("convert", "effects=reverb,delay", r"a list needs brackets: 'effects=\[reverb,delay\]'; .* --multirun"),
    ("train", "experiment=quickstart", "experiment=quickstart: type .experiment=quickstart, with the plus sign"),
    ("train", "+name=anna", "name=anna: the setting exists already; type name=anna, without the plus sign"),
    ("prepare", "audio=[1", r"'\[1' does not exist"),
    ("prepare", "audio=x,y", "'x,y' does not exist"),
    ("prepare", "=x", "'=x' is not a setting; settings are NAME=VALUE"),
    ("prepare", "audoi=in", "unknown setting 'audoi'. Did you mean audio[?] --cfg job"),
    ("train", "model.crop_framse=3", "Did you mean model.crop_frames[?]"),
    ("convert", "transpose=3", "unknown setting 'transpose'. Did you mean transpose_semitones[?]"),
    ("train", "quite_another=3", "unknown setting 'quite_another'. --cfg job"),
    ("prepare", "~audio", "'audio' does not exist"),
    ("prepare", "slicing=autmatic", "unknown slicing 'autmatic'; choose one of: automatic, simple, skip"),
    ("prepare", "slicing=9", "unknown slicing '9'; choose"),
    ("prepare", "slicing=null", "unknown slicing 'null'; choose"),
    ("prepare", "slicing=true", "unknown slicing 'true'; choose"),
    ("convert", "precision=0.5", "unknown precision '0.5'; choose one of: 16-mixed"),
    ("train", "+experiment=x", "unknown experiment 'x'; choose one of: base_voice"),
    ("prepare", "+slicing=simple", "slicing=simple: the setting exists already; type slicing=simple, without"),
    ("prepare", "include={a:b}", "Cannot merge DictConfig with ListConfig"),
    ("prepare", "hydra/launcher=x", "unknown hydra/launcher 'x'; choose one of: basic"),
    ("prepare", "hydra.verbose=3", "Error: "),
    ("prepare", "--resolve", "--resolve flag can only be used"),
    ("prepare", "--config-name=nope", "primary config 'nope'"),
    ("prepare", "--config-dir=/nope", "'/nope' not found"),
    ("prepare", "--config-path=/nope", "'/nope' exists and readable"),
    ("prepare", "audio=${nope:1}", "audio: Unsupported interpolation type nope"),
    ("prepare", "audio=${nope}", "audio: Interpolation key 'nope' not found"),
    ("prepare", "audio=${name}", "audio: Recursive interpolation"),
    ("train", "audio=[a,b]", r"'\[a,b\]' does not exist"),
    ("train", "checkpoint=[]", r"checkpoint not found: '\[\]'"),
    # What Lightning, optimizers and callbacks take, and fail at hours later.
    ("train", f"{TRAIN} trainer.max_epochs=lots", "trainer.max_epochs='lots': choose a whole number from -1 up"),
    ("train", f"{TRAIN} trainer.log_every_n_steps=x", "trainer.log_every_n_steps='x': choose a whole number"),
    ("train", f"{TRAIN} trainer.check_val_every_n_epoch=0", "check_val_every_n_epoch=0: choose a whole number from 1"),
    ("train", f"{TRAIN} trainer.max_steps=1.5", "trainer.max_steps=1.5: choose a whole number"),
    ("train", f"{TRAIN} trainer.max_time=5", "trainer.max_time=5: choose days:hours:minutes:seconds"),
    ("train", f"{TRAIN} trainer.max_time=10min", "trainer.max_time=10min: choose days:hours"),
    ("train", f"{TRAIN} optimizer.lr=abc", "optimizer.lr='abc': choose a number from 1e-09 to 1"),
    ("train", f"{TRAIN} optimizer.lr=0", "optimizer.lr=0: choose a number from 1e-09 to 1"),
    ("train", f"{TRAIN} optimizer.betas=x", "optimizer.betas='x': choose a list in brackets"),
    ("train", f"{TRAIN} optimizer.lr=groß", "optimizer.lr='groß': choose a number from 1e-09 to 1"),
    ("train", f"{TRAIN} optimizer.betas=[2,3]", r"optimizer: Invalid beta .* 2; got {'lr': 0.0001, 'betas': \[2, 3\]"),
    ("train", f"{TRAIN} scheduler.gamma=0", "scheduler.gamma=0: choose a number from 0.01 to 1"),
    ("train", f"{TRAIN} callbacks.last.every_minutes=x", "callbacks.last.every_minutes='x': choose a number from 0.01"),
    (
        "train",
        f"{TRAIN} callbacks.last.every_n_steps=0",
        "callbacks.last.every_n_steps=0: choose a whole number",
    ),
    ("train", f"{TRAIN} callbacks.overtraining.smoothing=x", "overtraining.smoothing='x': choose a number from 0 to"),
    ("train", f"{TRAIN} callbacks=ema callbacks.ema.decay=x", "callbacks.ema.decay='x': choose a number from 0 to 1"),
    ("train", f"{TRAIN} +data.batchsize=3", "unknown setting of data 'batchsize'; choose one of: .*batch_size"),
    # Names and paths.
    ("prepare", f"{PREPARE} name=../../x", r"name=\.\./\.\./x: folders and files are named after it"),
    ("train", f"{TRAIN} name=a/b", "name=a/b: folders and files"),
    ("train", f"{TRAIN} name=..", r"name=\.\.: folders and files"),
    ("prepare", f"{PREPARE} name=", "name=: folders and files"),
    ("prepare", "prepare_workers=0", "audio=... is missing"),
    ("prepare", f"{PREPARE} audio=", "audio='': choose text"),
    ("prepare", f"{PREPARE} audio=3", "'3' does not exist"),
    ("prepare", f"{PREPARE} audio='~no-such-user/x'", "'~no-such-user/x' does not exist"),
    ("prepare", f"{PREPARE} paths.dataset=", "paths.dataset='': choose text"),
    ("prepare", f"{PREPARE} paths.dataset=null", "paths.dataset=... is missing"),
    ("prepare", f"{PREPARE} paths.dataset=in/a.wav", "in/a.wav' cannot be written"),
    ("prepare", f"{PREPARE} paths.dataset=in", "'in' contains the recordings"),
    ("prepare", f"{PREPARE} paths.root=in/a.wav", "cannot be written"),
    ("convert", f"{CONVERT} voice=", "voice='': choose text"),
    ("convert", f"{CONVERT} voice=in", "voice not found: 'in'"),
    ("convert", f"{CONVERT} input=", "input='': choose text"),
    ("convert", f"{CONVERT} input=[a]", r"no such file or folder: '\[a\]'"),
    ("convert", f"{CONVERT} output=", "output='': choose text"),
    ("convert", f"{CONVERT} output=anna.pth/x", "cannot be written"),
    ("convert", f"{CONVERT} index=3", "index not found: '3'"),
    ("convert", f"{CONVERT} index=[]", r"index not found: '\[\]'"),
    ("train", f"{TRAIN} checkpoint=nope", "checkpoint not found: 'nope'"),
    ("train", f"{TRAIN} checkpoint=", "checkpoint='': choose text"),
    ("export", "checkpoint=in", "no readable checkpoint found in 'in'"),
    ("export", "checkpoint=anna.pth", "is a voice, not a checkpoint"),
    ("importers", "folder=nope", "nope"),
    ("importers", "folder=in", "in"),
    ("app", f"{APP} voices=nope", "no such folder"),
    ("app", f"{APP} host=", "host='': choose text"),
    ("pretraining.synthesize", "corpus=c words=nope", "words=nope"),
    ("pretraining.augment_speakers", "output=o recordings=in", "recordings=in"),
    # Values.
    ("prepare", f"{PREPARE} slicing.slice_seconds=abc", "slice_seconds='abc'"),
    ("prepare", f"{PREPARE} slicing.threshold_db=nan", "threshold_db"),
    ("prepare", f"{PREPARE} prepare_workers=-1", "choose a whole number from 0 up"),
    ("prepare", f"{PREPARE} preparation.batch_seconds=x", "batch_seconds='x'"),
    ("prepare", f"{PREPARE} preparation.all_devices=x", "all_devices='x': choose true or false"),
    ("prepare", f"{PREPARE} preview=maybe", "preview='maybe': choose true or false"),
    ("prepare", f"{PREPARE} include=3", "include=3: choose a list"),
    ("prepare", f"{PREPARE} model.synthesizer.sample_rate=abc", "choose a whole number"),
    ("prepare", f"{PREPARE} model.synthesizer.sample_rate=1e12", "choose a whole number"),
    ("prepare", f"{PREPARE} model.synthesizer.sample_rate=999999900", "from 100 to 768000"),
    ("prepare", f"{PREPARE} content.path=in/a.wav", "not a phonetic encoder"),
    ("prepare", f"{PREPARE} pitch=rmvpe pitch.path=in/a.wav", "cannot be read as a pitch network"),
    ("prepare", f"{PREPARE} trainer._target_=os.system", "trainer: .*os.system"),
    ("convert", f"{CONVERT} redo=maybe", "redo='maybe': choose true or false"),
    ("convert", f"{CONVERT} batch_seconds=x", "batch_seconds='x': choose a number"),
    ("convert", f"{CONVERT} batch_seconds=nan", "batch_seconds=nan: choose a number from 0"),
    ("convert", f"{CONVERT} num_workers=1.5", "num_workers=1.5: choose a whole number"),
    ("convert", f"{CONVERT} chunks.longest_seconds=x", "chunks.longest_seconds='x': choose a whole number"),
    ("convert", f"{CONVERT} chunks.context_seconds=1.5", "chunks.context_seconds=1.5: choose"),
    ("convert", f"{CONVERT} chunks=3", "chunks=3: choose a table of settings"),
    ("convert", f"{CONVERT} effects=[null]", "unknown effect 'None'"),
    ("convert", f"{CONVERT} platform.backends=3", "platform.backends=3: choose a table"),
    ("export", "checkpoint=anna.pth index=foo", "index=foo: choose a table of settings"),
    ("evaluate", f"{EVALUATE} metrics=3", "metrics=3: choose a list"),
    ("evaluate", f"{EVALUATE} options=null", "a table of settings"),
    ("evaluate", f"{EVALUATE} reference=3", "no such file or folder '3'"),
    (
        "evaluate",
        f"{EVALUATE} platform.float32_matmul_precision=x",
        "precision='x': choose one of: highest, high",
    ),
    (
        "stream",
        f"{STREAM} platform.float32_matmul_precision=x",
        "precision='x': choose one of: highest, high",
    ),
    ("stream", f"{STREAM} input_sample_rate=x", "input_sample_rate='x': choose a whole number from 8000"),
    ("stream", f"{STREAM} stream.block_seconds=x", "block_seconds='x': choose a number from 0.02"),
    ("stream", f"{STREAM} stream=null", r"stream=\.\.\. is missing: Fields of `StreamLengths`"),
    ("live", "devices=true report_seconds=x", "report_seconds='x': choose a number from 0.1 s up"),
    ("app", f"{APP} port=x", "port='x': choose a whole number from 0 to 65535"),
    ("app", f"{APP} limits.max_seconds=x", "max_seconds='x'"),
    ("app", f"{APP} batch_seconds=x", "batch_seconds='x': choose a number"),
    ("benchmark", "rounds=0", "rounds=0: choose a whole number from 1 up"),
    ("benchmark", "steps=x", "steps='x': choose a whole number"),
    ("download", "files=3", "files=3: not found"),
    ("train", f"{TRAIN} seed=x", "seed='x': choose a whole number from 0 to 4294967295"),
    ("train", f"{TRAIN} seed=-1", "seed=-1: choose a whole number"),
    ("train", f"{TRAIN} data.num_workers=-1", "data.num_workers=-1: choose a whole number"),
    ("train", f"{TRAIN} data.held_out=9", "data.held_out=9: choose a number from 0 to 1"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wrong")
    make_voice(quick_config()).save(folder / "anna.pth")
    write_audio(folder / "in" / "a.wav", speech_like(0.6), 16000)
    return folder


@pytest.mark.parametrize(("name", "arguments", "message"), WRONG, ids=[f"{name} {given}" for name, given, _ in WRONG])
def test_one_line_and_nothing_written(folder, monkeypatch, name, arguments, message):
    monkeypatch.chdir(folder)
    before = list_tree(folder)
    error = single_error(run_command(name, *arguments.split()))
    assert re.search(message, error)
    assert list_tree(folder) == before
