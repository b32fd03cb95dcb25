"""Web page that converts: `python -m rvc_lightning.app voices=FOLDER`, with the extra `app`."""
