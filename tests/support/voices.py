"""Voice files for tests."""

import torch
from golden import GOLDEN

VOICES = sorted((GOLDEN / "voices").glob("*.pth"))


def read_entries(path):
    """Read the entries of a voice file."""
    return torch.load(path, weights_only=True)


def with_parametrizations(weights):
    """Return stored weights under the names of newer torch."""
    spellings = (("weight_g", "parametrizations.weight.original0"), ("weight_v", "parametrizations.weight.original1"))
    renamed = dict(weights)
    for old, new in spellings:
        renamed = {name.replace(old, new): tensor for name, tensor in renamed.items()}
    assert renamed.keys() != weights.keys()
    return renamed
