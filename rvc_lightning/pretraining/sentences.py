"""Random sentences: words in plausible order, for many combinations of phones."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

_PATTERNS = (
    "The {w} {w} {p} the {w}.",
    "{w} and {w} {v} {p} a {w} {w}.",
    "Did you {v} the {w} of {w}?",
    "{n} {w} {v} {p} {w}, {w} and {w}.",
    "When {w} {v}, nobody {v} the {w} {w}.",
    "She said {w}, {w}, {w}!",
    "It was {w} {p} {w}, but {w} {v} it.",
    "Why don't they {v} {n} {w} {p} the {w}?",
    "We {v} {w} at {n} {w} street.",
    "Mr. {w} {v} his {w}; her {w} {v} it.",
    "{w} {w} {w} {w} {w} {w}.",
    "You should {v} this {w}, or that {w}.",
    "Oh, {w}, I'll {v} {w} by {n}.",
    "There are {n} {w} {p} our {w}.",
)
_VERBS = (
    "see", "took", "gave", "hear", "watch", "choose", "throw", "measure", "enjoy", "judge", "build", "bring",
    "thank", "use", "hold", "found", "lose", "wash", "save", "join", "push", "pull", "fetch", "loathe", "breathe",
    "avoid", "allow", "catch", "cure", "destroy", "draw", "earn", "fear", "form", "guard", "heard", "hurt", "know",
    "leave", "prove", "reach", "roar", "share", "shout", "soothe", "spoil", "stare", "think", "urge", "vow",
    "weigh", "yawn"
)  # fmt: skip
_PREPOSITIONS = (
    "with", "under", "over", "through", "beside", "above", "between", "before", "around", "towards", "into", "from",
    "behind", "near", "without"
)  # fmt: skip


def sentences(words: Sequence[str], seed: int) -> Iterator[str]:
    """Yield an endless sequence of random sentences.

    Args:
        words: Words to fill in.
        seed: Seed of the random choices.
    """
    rng = random.Random(seed)
    while True:
        parts = []
        for piece in rng.choice(_PATTERNS).split(" "):
            parts.append(
                piece.replace("{w}", rng.choice(words))
                .replace("{v}", rng.choice(_VERBS))
                .replace("{p}", rng.choice(_PREPOSITIONS))
                .replace("{n}", str(rng.choice((rng.randrange(20), rng.randrange(100), rng.randrange(5000)))))
            )
        yield " ".join(parts)
