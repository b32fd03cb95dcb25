"""Options refuse what makes no sense, and say what does."""

import pytest
from omegaconf import OmegaConf

from rvc_lightning import ConversionOptions
from rvc_lightning.errors import ConfigurationError


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("transpose_semitones", 49),
        ("transpose_semitones", float("nan")),
        ("transpose_semitones", "up"),
        ("index_rate", 1.1),
        ("index_rate", True),
        ("protect", 0.6),
        ("protect", -0.1),
        ("volume_envelope", 2),
        ("volume_envelope", None),
        ("speaker", -1),
        ("speaker", 0.5),
        ("seed", -1),
    ],
)
def test_a_wrong_value_is_named(name, value):
    with pytest.raises(ConfigurationError, match=rf"{name}=.*choose a"):
        ConversionOptions(**{name: value})


def test_the_command_has_the_same_options_and_defaults():
    from importlib.resources import files

    config = OmegaConf.create(files("rvc_lightning.conf").joinpath("convert.yaml").read_text())
    defaults = ConversionOptions()
    assert {name: config[name] for name in vars(defaults)} == vars(defaults)
