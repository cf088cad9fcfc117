"""Lexical dimensions and the domain of a text, from the trained tables."""

import numpy as np

from localforge.features.aptitude import Aptitudes
from localforge.features.lexical import Buckets
from localforge.features.sums import sum_of
from localforge.features.tables import Floats, Tables


class LexicalScorer:
    """Projects a text's tf-idf vector, of length 1, onto trained directions.

    Args:
        tables: Domain logits and lexical dimensions.
        trained: Directions of the prior.
    """

    def __init__(self, tables: Tables, trained: Aptitudes) -> None:
        # One table, because it is looked up in once.
        self._table = np.hstack([tables.lexical, trained.table])
        self._scale: Floats = np.concatenate([tables.lexical_scale, trained.scale])
        self._norm = tables.bucket_norm

    def scores(self, buckets: Buckets) -> Floats:
        """Return domain logits, lexical dimensions and aptitudes: float32, shape (K + L + A,).

        Args:
            buckets: The text's distinct n-gram buckets.
        """
        # Exact: the sum of so few small integers stays below 2**24.
        scores = sum_of(self._table.take(buckets, axis=0))
        norm = float(sum_of(self._norm.take(buckets))) ** 0.5
        scores *= self._scale
        scores /= np.float32(max(norm, 1e-6))
        return scores


class DomainClassifier:
    """Tells the domain of a text from its words and its embedding.

    Args:
        tables: Weights of the embedding, and bias.
    """

    def __init__(self, tables: Tables) -> None:
        self._weights = tables.domain_embedding
        self._bias = tables.domain_bias

    def probabilities(self, lexical_logits: Floats, embedding: Floats) -> Floats:
        """Return the probability of every domain in `Header.domains`: float32, shape (K,), sum 1.

        Args:
            lexical_logits: First K of `LexicalScorer.scores`.
            embedding: Standardised embedding, shape (E,).
        """
        odds: Floats = embedding.dot(self._weights)
        odds += lexical_logits
        odds += self._bias
        # In a third of the time of `np.maximum.reduce`.
        odds -= odds[odds.argmax()]
        np.exp(odds, out=odds)
        odds /= np.add.reduce(odds)
        return odds
