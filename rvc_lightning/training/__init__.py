"""Training of a voice: module, losses, strategies, checkpoints and callbacks."""
