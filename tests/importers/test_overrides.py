"""Overrides for networks of given sizes."""

from configurations import compose_config

from rvc_lightning.config.values import plain
from rvc_lightning.importers.overrides import synthesizer_overrides
from rvc_lightning.models import SynthesizerConfig


def test_overrides_compose_the_same_sizes():
    stock = plain(compose_config("sample_rate=48k").model.synthesizer)
    assert synthesizer_overrides(SynthesizerConfig.from_values(stock)) == ["sample_rate=48k", "generator=hifigan_nsf"]
    other = SynthesizerConfig.from_values(stock | {"n_layers": 4, "resblock_dilations": [[1, 2], [1], [1, 3]]})
    assert synthesizer_overrides(other)[2:] == [
        "model.synthesizer.n_layers=4",
        "model.synthesizer.resblock_dilations=[[1,2],[1],[1,3]]",
    ]
    values = plain(compose_config(*synthesizer_overrides(other)).model.synthesizer)
    assert SynthesizerConfig.from_values(values) == other
