"""Voices in the file format of the RVC tools: exported by training, used by conversion."""
