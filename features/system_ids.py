"""Ids of other systems, whichever of their spellings a row uses."""

from __future__ import annotations

_CHECK_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


def id_key(value: str) -> str:
    """SQL of what two spellings of an id share.

    A CRM's id of 15 characters tells capitals apart; with 18 it ends in three that say which of the 15 are capitals,
    five of them each. Any other id of 18 characters stays whole.
    """
    letters = [
        f"substr('{_CHECK_LETTERS}', 1 + " + " + ".join(
            f"{2**place} * (substr({value}, {5 * group + place + 1}, 1) between 'A' and 'Z')::int" for place in range(5)
        ) + ", 1)"
        for group in range(3)
    ]  # fmt: skip
    is_long = f"length({value}) = 18 and right({value}, 3) = {' || '.join(letters)}"
    return f"case when {is_long} then left({value}, 15) else {value} end"
