"""Length buckets."""

from collections import Counter

import pytest
import torch

from rvc_lightning.data.buckets import LengthBucketSampler

LENGTHS = torch.randint(10, 900, (61,), generator=torch.Generator().manual_seed(3)).tolist()
BOUNDARIES = [50, 100, 200, 400]


def sampler(**changes):
    return LengthBucketSampler(LENGTHS, 4, BOUNDARIES, **changes)


def test_every_slice_once_per_epoch():
    """No slice is too short or too long for a bucket."""
    counts = Counter(index for batch in sampler() for index in batch)
    assert counts == Counter(range(len(LENGTHS)))


@pytest.mark.parametrize("replicas", [2, 3, 5])
def test_ranks_share_all_slices_equally(replicas):
    shards = [list(sampler(num_replicas=replicas, rank=rank)) for rank in range(replicas)]
    assert all(len(shard) == len(sampler(num_replicas=replicas)) for shard in shards)
    for batches in zip(*shards, strict=True):
        assert len({len(batch) for batch in batches}) == 1
    counts = Counter(index for shard in shards for batch in shard for index in batch)
    assert set(counts) == set(range(len(LENGTHS)))
    assert sum(counts.values()) < len(LENGTHS) + replicas


def test_batches_have_similar_lengths():
    def bucket(length):
        return sum(length > border for border in BOUNDARIES)

    spans = [max(bucket(LENGTHS[i]) for i in batch) - min(bucket(LENGTHS[i]) for i in batch) for batch in sampler()]
    assert sum(span == 0 for span in spans) >= len(spans) - len(BOUNDARIES)


def test_epochs_differ_and_are_reproducible():
    batches = sampler(seed=5)
    first = list(batches)
    batches.set_epoch(1)
    assert list(batches) != first
    batches.set_epoch(0)
    assert list(batches) == first
