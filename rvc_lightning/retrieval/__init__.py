"""The index of a voice: build, read and search it."""
