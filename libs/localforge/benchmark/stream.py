"""A file of outcomes as the router meets it: observations, offers, orders."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from localforge.bandit.shipped import ShippedPrior
from localforge.benchmark.outcomes import Outcomes
from localforge.benchmark.prices import price_list
from localforge.contracts.facts import Candidate
from localforge.features import SCHEMA, FeatureExtractor, validate

ZONE = "benchmark"

Rows = NDArray[np.intp]
Advance = Callable[[int], None]


class Question(NamedTuple):
    """What the profiler tells the router about one prompt."""

    features: bytes
    """As the profiler sends them."""
    prompt_tokens: int
    """Counted in the prompt's text, and as much for every question for what was sent around it."""
    domain: str
    complexity: float


class Stream(NamedTuple):
    """Questions that come one after the other, the models that may answer, and what is known."""

    outcomes: Outcomes
    """Only who plays and who scores looks at it; a policy is told nothing of it but the score, the
    cost and the token counts of the model it chose."""
    feature_schema: str
    dim: int
    questions: tuple[Question, ...]
    offers: tuple[Candidate, ...]
    prior: ShippedPrior | None = None
    """What the learner knows before the first question."""

    @property
    def cost_unit(self) -> float:
        """What the router takes an answer of the strong model to cost, in US dollars."""
        outcomes = self.outcomes
        (offer,) = (o for o in self.offers if o.model == outcomes.models[outcomes.strong])
        prompt = np.mean([question.prompt_tokens for question in self.questions])
        answers = outcomes.completion_tokens[:, outcomes.strong]
        answer = np.nanmean(answers) if np.isfinite(answers).any() else 0.0
        return float(prompt * offer.price_in + answer * offer.price_out) / 1_000_000


def make_stream(
    outcomes: Outcomes,
    extractor: FeatureExtractor,
    feature_schema: str,
    levels: Mapping[str, float],
    advance: Advance,
) -> Stream:
    """Return a file of outcomes as the router meets it. Features are computed once, here.

    Args:
        outcomes: The file.
        extractor: Makes the features.
        feature_schema: Name of what it makes.
        levels: Published score of each model that has one, 0 to 1: its card.
        advance: Called with 1 after each prompt.
    """
    questions = _profile(outcomes.prompts, extractor, advance)
    counted = _counted(outcomes, [question.prompt_tokens for question in questions])
    questions = [q._replace(prompt_tokens=n) for q, n in zip(questions, counted, strict=True)]
    shown = np.array([question.prompt_tokens for question in questions], dtype=np.float64)
    offers = tuple(
        Candidate(
            model=model,
            backend=model,
            zone=ZONE,
            price_in=price_in,
            price_out=price_out,
            published_score=levels.get(model),
        )
        for model, (price_in, price_out) in zip(
            outcomes.models, price_list(outcomes, shown), strict=True
        )
    )
    return Stream(
        outcomes=outcomes,
        feature_schema=feature_schema,
        dim=SCHEMA.dim,
        questions=tuple(questions),
        offers=offers,
    )


def order(count: int, number: int) -> Rows:
    """Return the rows in the file's own order (number 0) or shuffled."""
    rows: Rows = np.arange(count)
    if number:
        np.random.default_rng(number).shuffle(rows)
    return rows


def _counted(outcomes: Outcomes, own: Sequence[int]) -> list[int]:
    """Return the length of each request as far as its prompt tells it.

    What was sent around a question, examples mostly, is not in the file. Its mean is counted for
    every question: the true length would give a question's subject away. How far a kind of request
    is from the mean is for the learner to find out from the tokens that were billed.

    With two models the yardstick counts calls of the strong one, however long: there every request
    is taken to have the mean length, so that each call has the same price.

    Args:
        outcomes: Where it has no token counts, the prompt's own are all that is counted.
        own: Tokens of each prompt.
    """
    sent = outcomes.prompt_tokens
    if not np.isfinite(sent).all():
        return list(own)
    if len(outcomes.models) == 2:
        return [max(round(float(sent.mean())), 1)] * len(own)
    around = round(float(sent.mean()) - float(np.mean(own)))
    return [max(tokens + around, 1) for tokens in own]


def _profile(
    prompts: Iterable[str], extractor: FeatureExtractor, advance: Advance
) -> list[Question]:
    """Return what the profiler finds in prompts that are one user's turn each."""
    questions = []
    for prompt in prompts:
        seen = extractor.observe(validate({"messages": [{"role": "user", "content": prompt}]}))
        questions.append(
            Question(
                features=seen.features(),
                prompt_tokens=seen.prompt_tokens,
                domain=seen.domain,
                complexity=seen.complexity,
            )
        )
        advance(1)
    return questions
