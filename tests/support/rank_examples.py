"""Examples that ranks draw from a dataset."""

import torch


def examples_of_ranks(dataset):
    """Return the first items of the examples that each of two ranks with the same seed draws, by the rank's indices."""
    drawn = []
    for rank in range(2):
        torch.manual_seed(1)
        drawn.append([dataset[index][0] for index in range(rank, 8, 2)])
    return drawn
