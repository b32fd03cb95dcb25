"""Files: atomic writes, locks, downloads and safe unpickling."""
