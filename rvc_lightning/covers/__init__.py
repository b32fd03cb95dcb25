"""Covers: the voice of a song is converted and mixed with its music."""
