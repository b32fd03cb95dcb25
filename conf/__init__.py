"""The configuration files, installed as rvc_lightning.conf."""
