"""How the phonetic content encoder is made: speech with known phones, and the training on it.

    speakers.py + sentences.py + recordings.py  ──speak──▶  corpus.py  ──train──▶  assets/phonetic.pt

Nothing here is needed to use the encoder.
"""
