"""Measurements of `python -m rvc_lightning.benchmark`: training, preparation, conversion and live conversion."""
