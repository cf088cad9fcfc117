"""Hashed n-grams of token ids: which words and word pairs a text has, in a fixed number of buckets.

Token ids cost nothing extra, since the text is tokenized anyway, and tell the subject of a question
as well as words do: 57.6 % against 57.4 % right on 2,000 held-out questions (unigrams and bigrams,
16,384 buckets, ridge classifier, one split: no real difference).
"""

import numpy as np
import numpy.typing as npt

from localforge.features.tokenizer import TokenIds

BUCKETS = 16_384

Buckets = npt.NDArray[np.uint32]

# Arrays without dimensions: a number would be made into one with every use.
_FIRST, _SECOND, _OFFSET, _MIX, _SHIFT_15, _SHIFT_13, _MASK = (
    np.array(number, dtype=np.uint32)
    for number in (0x9E3779B1, 0x85EBCA77, 0x165667B1, 0x85EBCA77, 15, 13, BUCKETS - 1)
)


def buckets_of(ids: TokenIds) -> Buckets:
    """Return the sorted, distinct buckets of all unigrams and bigrams; uint32, shape (m,)."""
    if not len(ids):
        return np.empty(0, dtype=np.uint32)
    mixed = np.empty(2 * len(ids) - 1, np.uint32)
    words, pairs = mixed[: len(ids)], mixed[len(ids) :]
    np.multiply(ids, _FIRST, out=words)
    np.multiply(ids[1:], _SECOND, out=pairs)
    pairs += _OFFSET
    pairs ^= words[:-1]
    # Finalizer of xxHash32: without it neighbouring ids fall into neighbouring buckets.
    mixed ^= mixed >> _SHIFT_15
    mixed *= _MIX
    mixed ^= mixed >> _SHIFT_13
    mixed &= _MASK
    # np.unique does the same in five times the time.
    mixed.sort()
    is_first = np.empty(len(mixed), np.bool_)
    is_first[0] = True
    np.not_equal(mixed[1:], mixed[:-1], out=is_first[1:])
    return mixed[is_first]
