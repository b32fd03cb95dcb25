"""Decoding, encoding, resampling, filters, levels, slicing and spectra of recordings."""
