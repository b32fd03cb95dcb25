"""Settings of the phonetic encoder, from `conf/pretraining_train.yaml`."""

from configurations import compose_config

from rvc_lightning.config.values import plain
from rvc_lightning.models.phonetic import PhoneticNetwork
from rvc_lightning.pretraining.module import phonetic_config


def phonetic_settings(group, **changes):
    """Return the settings of a group below `model`: sizes, training or augment."""
    model = compose_config("paths.run=unused", command="pretraining_train").model
    return plain(model)[group] | changes


def phonetic_network(**sizes):
    """Build an untrained network."""
    return PhoneticNetwork(phonetic_config(phonetic_settings("sizes", **sizes)))
