"""From a folder of recordings to batches: preparation, manifest, dataset, batches."""
