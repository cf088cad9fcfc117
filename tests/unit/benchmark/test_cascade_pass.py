"""The router in cascade mode on made-up answers: what is asked, paid and learned."""

import numpy as np

from localforge.benchmark.cascade import for_cascade, play_cascade
from localforge.benchmark.online import Policy
from localforge.benchmark.outcomes import Outcomes
from localforge.benchmark.stream import Question, Stream, order
from localforge.config import RouterConfig
from localforge.contracts.facts import Candidate

POLICY = Policy("default", RouterConfig())
PRICES = {"one": 1.0, "two": 1.5, "best": 20.0, "dear": 60.0}
LEVELS = (0.75, 0.75, 0.95, 1.0)
TOKENS = 100


def pairs(count: int) -> Stream:
    """`one` and `two` are right on three of four, and then agree; else they differ.

    Nothing in the features tells which: only asking does.
    """
    random = np.random.default_rng(0)
    easy, good = random.random(count) < 0.75, random.random(count) < 0.95
    features = np.zeros(8, dtype="<f4")
    features[0] = 1.0
    return Stream(
        outcomes=Outcomes(
            name="pairs",
            query_ids=tuple(f"q{row}" for row in range(count)),
            prompts=("",) * count,
            models=tuple(PRICES),
            scores=np.stack([easy, easy, good, np.ones(count)], axis=1).astype(float),
            costs=np.tile([price * TOKENS / 1e6 for price in PRICES.values()], (count, 1)),
            prompt_tokens=np.full((count, 4), float(TOKENS)),
            completion_tokens=np.zeros((count, 4)),
            answers=(
                tuple("A" if right else "B" for right in easy),
                tuple("A" if right else "C" for right in easy),
                tuple("A" if right else "D" for right in good),
                ("A",) * count,
            ),
            strong=2,
            cheapest=0,
        ),
        feature_schema="pairs.v1",
        dim=8,
        questions=(Question(features.tobytes(), TOKENS, "general", 0.5),) * count,
        offers=tuple(
            Candidate(
                model=name,
                backend=name,
                zone="benchmark",
                price_in=price,
                price_out=price,
                quality_prior=level,
            )
            for (name, price), level in zip(PRICES.items(), LEVELS, strict=True)
        ),
    )


def usable(count: int) -> Stream:
    given = for_cascade(pairs(count))
    assert given is not None
    return given


def test_every_model_is_offered_whose_answers_are_told() -> None:
    given = pairs(10)
    answers = given.outcomes.answers
    untold = given._replace(
        outcomes=given.outcomes._replace(answers=(answers[0], (), *answers[2:]))
    )

    assert [offer.model for offer in usable(10).offers] == ["one", "two", "best", "dear"]
    silent = for_cascade(untold)
    assert silent is not None
    assert [offer.model for offer in silent.offers] == ["one", "best", "dear"]


def test_without_answers_there_is_no_cascade() -> None:
    given = pairs(10)
    silent = given._replace(outcomes=given.outcomes._replace(answers=((), (), (), ())))

    assert for_cascade(silent) is None


def test_a_pair_that_can_be_compared_beats_every_mix_of_single_models() -> None:
    given = usable(1_500)

    point = play_cascade(given, POLICY, order(1_500, 0), 0.1 / given.cost_unit).point()

    cheap, strong = given.outcomes.costs[0, 0], given.outcomes.costs[0, 2]
    mixed = 0.75 + 0.2 * (point.cost - cheap) / (strong - cheap)
    assert point.accuracy > mixed + 0.05


def test_all_calls_are_paid() -> None:
    given = usable(1_500)

    total = play_cascade(given, POLICY, order(1_500, 0), 0.1 / given.cost_unit)

    alone = total.strong * given.outcomes.costs[0, 2]
    # The pair was paid on most questions, those that were escalated included.
    assert total.cost > alone + 0.5 * 1_500 * given.outcomes.costs[0, :2].sum()


class Watched(np.ndarray):
    """Scores that note which of them were looked at."""

    def __getitem__(self, key):
        self.seen.append(key)
        return super().__getitem__(key)


def test_only_the_score_of_the_answer_that_is_delivered_is_looked_at() -> None:
    given = usable(300)
    scores = given.outcomes.scores.view(Watched)
    scores.seen = []

    watched = given._replace(outcomes=given.outcomes._replace(scores=scores))
    total = play_cascade(watched, POLICY, order(300, 0), 0.2 / given.cost_unit)

    rows, models = zip(*scores.seen, strict=True)
    assert sorted(rows) == list(range(300))
    assert total.score == given.outcomes.scores[list(rows), list(models)].sum()
    # Both answers of pairs and the strong model's were delivered.
    assert set(models) == {0, 1, 2}
