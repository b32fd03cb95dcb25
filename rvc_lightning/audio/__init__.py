"""Audio in and out: decoding, resampling, writing, filters, loudness and cutting on silence."""
