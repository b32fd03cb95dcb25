"""Callbacks that monitor, save and display a training. They do not change its steps."""
