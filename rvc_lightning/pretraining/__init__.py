"""Training of the phonetic content encoder that ships with the package, on speech with known phones.

    synthesizers.py + sentences.py + recordings.py  ──synthesize──▶  corpus.py  ──train──▶  assets/phonetic/

`augment_speakers.py` derives many speakers from a few, to train the base voice. Nothing here is needed to use either.
"""
