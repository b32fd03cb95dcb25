"""Hash of the weights of a voice."""

from stubs import make_voice, quick_config

from rvc_lightning import Voice
from rvc_lightning.voice.voice import content_hash


def test_hash_depends_on_the_weights_and_other_hashes_are_kept(tmp_path):
    voice = make_voice(quick_config())
    information = voice.information | {"model_hash": "ab"}
    loaded = Voice.load(Voice(voice.config, voice.weights, information).save(tmp_path / "a"))
    assert loaded.information["model_hash"] == "ab"
    assert loaded.information["content_hash"] == content_hash(loaded.weights)
    changed = dict(loaded.weights)
    changed["dec.conv_pre.bias"] = changed["dec.conv_pre.bias"] + 1
    assert content_hash(changed) != content_hash(loaded.weights)
