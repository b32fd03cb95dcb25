"""Web page and HTTP API: `python -m rvc_lightning.app voices=FOLDER`, with the extra `app`."""
