"""The feature vector: what the bandit learns on.

Fixed length, float32, the bias first. Every other column is centred, has a spread of about
`SPREAD` and is clipped, so that a vector has a squared length of about 1 beside the bias, which is
what a ridge prior of 1 expects.
"""

import functools
import hashlib
import itertools
import math

import msgspec
import numpy as np

from localforge.contracts.cards import Capability
from localforge.features import surface
from localforge.features.aptitude import APTITUDES, Aptitudes, aptitudes
from localforge.features.cues import cues_of
from localforge.features.demand import (
    complexity,
    is_in_tool_loop,
    latency_tolerance,
    max_tokens_of,
    needs_of,
)
from localforge.features.domain import DomainClassifier, LexicalScorer
from localforge.features.embedding import Embedder
from localforge.features.lexical import buckets_of
from localforge.features.request import Body
from localforge.features.tables import Floats, Tables, tables
from localforge.features.text import extract_text
from localforge.features.tokenizer import tokenize
from localforge.features.tokens import TokenEstimate

REVISION = 2
"""Grows with every change of this package that changes a vector; a test compares vectors."""
SPREAD = 0.1
# Arrays without dimensions: a number would be made into one with every use.
_HIGHEST, _LOWEST, _SPREAD, _THREE = (
    np.array(number, dtype=np.float32) for number in (4, -4, SPREAD, 3)
)
_HALF_FLOATS = np.dtype("<f2")
_JSON = (Capability.JSON_OBJECT, Capability.JSON_SCHEMA)
APTITUDE = "aptitude_"
"""Names of the columns that belong to the shipped prior begin so."""
_REQUEST = (
    "complexity", "log_prompt_tokens", "log_max_tokens", "log_messages", "system", "tools", "json",
    "media", "tool_loop",
)  # fmt: skip


class Schema(msgspec.Struct, frozen=True):
    """Identity of a feature vector; vectors of different schemas never meet in one learner."""

    name: str
    """With a hash of everything that the vector depends on."""
    dim: int
    columns: tuple[str, ...]


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about one request before it is routed."""

    vector: Floats
    """float32, shape (SCHEMA.dim,)."""
    prompt_tokens: int
    domain: str
    domain_probability: float
    complexity: float
    """0 to 1."""
    latency_tolerance: float
    """0 to 1."""
    needs: frozenset[Capability]
    max_tokens: int
    """0 means the request sets no bound."""
    in_tool_loop: bool
    turns: int
    """Messages in the conversation."""
    has_opaque_parts: bool
    """It carries audio, a file, or an image that is no http(s) URL."""

    def features(self) -> bytes:
        """Return the vector as it travels, is recorded and decided on: float16, little endian."""
        return self.vector.astype(_HALF_FLOATS).tobytes()


def schema_of(trained: Tables, prior: Aptitudes) -> Schema:
    """Return the schema of vectors made with these tables."""
    header = trained.header
    columns = (
        "bias",
        *(f"surface_{name}" for name in surface.NAMES),
        *_REQUEST,
        *(f"domain_{name}" for name in header.domains),
        *(f"lexical_{index}" for index in range(header.lexical_dim)),
        *(f"embedding_{index}" for index in range(header.embedding_dim)),
        *(f"{APTITUDE}{index}" for index in range(APTITUDES)),
    )
    identity = "\n".join((str(REVISION), str(SPREAD), trained.digest, prior.digest, *columns))
    digest = hashlib.sha256(identity.encode()).hexdigest()
    return Schema(name=f"chat.{REVISION}-{digest[:12]}", dim=len(columns), columns=columns)


@functools.cache
def schema() -> Schema:
    """Return the schema of this installation's vectors; `features.SCHEMA`."""
    return schema_of(tables(), aptitudes())


class FeatureExtractor:
    """Turns checked requests into observations. Holds tokenizer, tables and token vectors.

    Args:
        prior: Other aptitudes than the shipped ones; `SCHEMA` then does not name the vectors.

    Raises:
        StateError: The installed embedding is not the one the tables were made with.
    """

    def __init__(self, prior: Aptitudes | None = None) -> None:
        trained = tables()
        self._domain_names = trained.header.domains
        self._embedder = Embedder(trained)
        self._token_estimate = TokenEstimate(trained.token_weights)
        prior = prior or aptitudes()
        self._lexical_scorer = LexicalScorer(trained, prior)
        self._domain_classifier = DomainClassifier(trained)
        domains = len(self._domain_names)
        parts = (
            1,
            len(surface.NAMES) + len(_REQUEST),
            domains,
            len(trained.lexical_mean),
            trained.header.embedding_dim,
            APTITUDES,
        )
        self._described, self._domains, self._lexical, self._embedding, self._aptitudes = (
            slice(start, end) for start, end in itertools.pairwise(itertools.accumulate(parts))
        )
        # They lie side by side; the logits of the domains become probabilities in place.
        self._domains_and_lexical = slice(self._domains.start, self._lexical.stop)
        self._domain_mean = np.array(3 / domains, dtype=np.float32)
        # Centre and scale of every column; what they do not know stays as it is.
        self._mean = np.zeros(schema().dim, dtype=np.float32)
        self._scale = np.ones(schema().dim, dtype=np.float32)
        surfaces = slice(1, 1 + len(surface.NAMES))
        for columns, mean, scale in (
            (surfaces, trained.surface_mean, trained.surface_scale),
            (self._lexical, trained.lexical_mean, trained.lexical_spread),
            (self._embedding, trained.embedding_mean, trained.embedding_scale),
            (self._aptitudes, prior.mean, prior.spread),
        ):
            self._mean[columns], self._scale[columns] = mean, scale
        # Loads the tokenizer now, so that the first request does not wait 80 ms for it.
        tokenize("ready")

    def observe(self, body: Body, *, durable: bool = False) -> Observation:
        """Return what a request looks like. Pure.

        Args:
            body: A request that `validate` has passed.
            durable: It came on the durable lane.
        """
        text = extract_text(body)
        sample = text.sample
        ids = tokenize(sample)
        counts = surface.count(sample)
        tokens = self._token_estimate.prompt_tokens(text, counts, len(ids))

        needs = needs_of(body, text)
        cues = cues_of(sample)
        effort = complexity(body, text, sample, cues.effort, tokens)
        bound = max_tokens_of(body)
        loop = is_in_tool_loop(body)
        scores = self._lexical_scorer.scores(buckets_of(ids))

        # One array is filled, then standardised and clipped as a whole.
        vector = np.zeros(len(self._mean), np.float32)
        vector[self._described] = (
            *surface.describe(sample, counts, cues.code),
            2 * effort - 1,
            math.log2(tokens) / 4 - 2,
            math.log2(bound) / 4 - 2 if bound else 0.0,
            math.log2(text.messages),
            text.has_system,
            # Most requests need nothing, and looking up an enumeration's member is slow.
            bool(needs) and Capability.TOOLS in needs,
            bool(needs) and not needs.isdisjoint(_JSON),
            bool(text.images or text.audio_parts),
            loop,
        )
        vector[self._domains_and_lexical] = scores[:-APTITUDES]
        vector[self._aptitudes] = scores[-APTITUDES:]
        vector[self._embedding] = self._embedder.embed(ids)
        vector -= self._mean
        vector *= self._scale
        domains = vector[self._domains]
        probabilities = self._domain_classifier.probabilities(domains, vector[self._embedding])
        np.multiply(probabilities, _THREE, out=domains)
        domains -= self._domain_mean
        np.minimum(vector, _HIGHEST, out=vector)
        np.maximum(vector, _LOWEST, out=vector)
        vector *= _SPREAD
        vector[0] = 1
        best = int(probabilities.argmax())
        return Observation(
            vector=vector,
            prompt_tokens=tokens,
            domain=self._domain_names[best],
            domain_probability=float(probabilities[best]),
            complexity=effort,
            latency_tolerance=latency_tolerance(body, durable=durable),
            needs=needs,
            max_tokens=bound,
            in_tool_loop=loop,
            turns=text.messages,
            has_opaque_parts=text.has_opaque_parts,
        )
