"""The loader resumes an epoch with the next batch."""

import pytest

from rvc_lightning.data.buckets import LengthBucketSampler
from rvc_lightning.data.loader import ResumableLoader

LENGTHS = list(range(10, 71))


def make_loader(taken=0, workers=0):
    batches = LengthBucketSampler(LENGTHS, 4, [20, 40], seed=1)
    loader = ResumableLoader(LENGTHS, batch_sampler=batches, collate_fn=list, num_workers=workers)
    loader.load_state_dict({"taken": taken})
    return loader


@pytest.mark.parametrize("workers", [0, 2])
def test_restored_loader_continues_with_the_next_batch(workers):
    whole = list(make_loader())
    loader = make_loader(workers=workers)
    iterator = iter(loader)
    taken = [next(iterator) for _ in range(5)]
    # Prefetched batches do not count.
    state = loader.state_dict()
    assert state == {"taken": 5}
    restored = make_loader(taken=5, workers=workers)
    assert taken + list(restored) == whole
    assert restored.state_dict() == {"taken": 0}
    assert len(list(restored)) == len(whole)


def test_state_of_a_restored_loader_is_kept_before_its_first_batch():
    assert make_loader(taken=5).state_dict() == {"taken": 5}
