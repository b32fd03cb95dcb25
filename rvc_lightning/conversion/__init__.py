"""Conversion of recordings and streams to a voice."""
