"""Measurements of `python -m rvc_lightning.benchmark`: training, preparation and conversion."""
