"""Conversion: any recording spoken by a voice."""
