"""A web page that converts: `python -m rvc_lightning.app voices=FOLDER` (an extra: `pip install -e ".[app]"`)."""
