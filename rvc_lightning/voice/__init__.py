"""Voices: exported by training, used by conversion, readable by every RVC tool."""
