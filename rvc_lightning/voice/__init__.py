"""Voices: what training exports, conversion uses and every RVC tool reads."""
