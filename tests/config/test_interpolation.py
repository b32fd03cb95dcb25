"""Values of visitors and of files are literal: they cannot read the environment."""

import pytest
from omegaconf import OmegaConf

from rvc_lightning import ConversionOptions
from rvc_lightning.cli.overrides import format_override, parse_overrides
from rvc_lightning.errors import ConfigurationError

READ = "${oc.env:SECRET}"


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    monkeypatch.setenv("SECRET", "hidden")


@pytest.mark.parametrize("text", [READ, f"\\{READ}", f"\\\\{READ}", f"a {READ}\\", "${", f'x\\"{READ}', f"{READ}'\"\\"])
def test_text_is_literal(text):
    assert ConversionOptions.from_values({"speaker": text}).speaker == text
    for value in (text, {"a": [text]}):
        override = parse_overrides([format_override("speaker", value)])["speaker"]
        config = OmegaConf.create({"speaker": override.value()})
        assert OmegaConf.to_container(config, resolve=True) == {"speaker": value}


@pytest.mark.parametrize(
    "values", [{"seed": READ}, {"effects": [READ]}, {"effects": [{"name": READ}]}, {"effects": [{"gain": READ}]}]
)
def test_errors_contain_the_text(values):
    with pytest.raises(ConfigurationError) as caught:
        ConversionOptions.from_values(values)
    assert "hidden" not in str(caught.value)


def test_configuration_is_resolved():
    config = OmegaConf.create(
        {"name": "anna", "share": 0.5, "options": {"speaker": "${name}", "index_rate": "${share}"}}
    )
    assert ConversionOptions.from_values(config.options) == ConversionOptions(speaker="anna", index_rate=0.5)
