"""How the phonetic content encoder is made: speech with known phones, and the training on it.

    speakers.py + sentences.py + recordings.py  ──speak──▶  corpus.py  ──train──▶  assets/phonetic/phonetic.pt

and, for the base voice that others start from, many speakers made of a few: `crowd.py`.

Nothing here is needed to use the encoder.
"""
