"""Preparation of recordings, manifest, dataset and batches."""
