"""Covers: convert the voice of a song and mix it with the music."""
