"""What a comment, in English, must say to count as a mention; a final s is allowed, and capitals do not matter."""

from __future__ import annotations

COMPETITOR_WORDS = ("competitor", "competing product", "rival", "alternative", "switch to", "switching to")
PRICE_WORDS = (
    "expensive", "overpriced", "pricey", "costly", "cheaper", "price increase", "price is too high",
    "prices are too high", "over budget",
)  # fmt: skip


def whole_words(words: tuple[str, ...]) -> str:
    """Pattern of one of `words`, or its plural, as a whole word in small letters; the word is its second group."""
    return f"(^|[^a-z])({'|'.join(words)})s?([^a-z]|$)"
