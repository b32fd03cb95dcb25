"""The speaker network."""

import pytest
import torch

from rvc_lightning.models.network_file import to_file
from rvc_lightning.models.speaker import MIN_SPECTRA, SpeakerConfig, SpeakerNetwork, from_file

CONFIG = SpeakerConfig(n_mels=16, channels=8, embedding=4)


def test_embeddings_are_unit_vectors_that_ignore_the_level():
    network = SpeakerNetwork(CONFIG).eval()
    log_mel = torch.randn(3, 50, 16)
    embedding = network(log_mel)
    assert embedding.shape == (3, 4)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(network(log_mel + 2.5), embedding, rtol=1e-4, atol=1e-4)


def test_shortest_item():
    network = SpeakerNetwork(CONFIG).eval()
    assert network(torch.randn(1, MIN_SPECTRA, 16)).isfinite().all()
    assert not network(torch.randn(1, MIN_SPECTRA - 2, 16)).isfinite().all()


def test_write_and_read_a_file(tmp_path):
    network = SpeakerNetwork(CONFIG).train()
    network(torch.randn(5, 50, 16))
    torch.save(to_file(network.eval()), tmp_path / "speaker.pt")
    read = from_file(torch.load(tmp_path / "speaker.pt", weights_only=True))
    log_mel = torch.randn(2, 60, 16)
    torch.testing.assert_close(read(log_mel), network(log_mel), rtol=1e-2, atol=1e-2)
    with pytest.raises(RuntimeError):
        from_file({"config": vars(SpeakerConfig(n_mels=16, channels=4, embedding=4)), "weights": read.state_dict()})
