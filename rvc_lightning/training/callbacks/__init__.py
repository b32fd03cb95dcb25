"""Callbacks that watch a training, save it and show it. They do not change what it learns."""
