"""What is measured by `python -m rvc_lightning.benchmark`: training, preparation, conversion."""
