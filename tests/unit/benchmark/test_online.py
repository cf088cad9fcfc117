"""What a pass shows to the policy, and what it does not."""

import numpy as np
import pytest

from localforge.benchmark.online import Play, Policy, add, play
from localforge.benchmark.stream import Stream, order
from localforge.config import RouterConfig
from tests.unit.benchmark.synthetic import stream

POLICY = Policy("default", RouterConfig())
WEIGHT = 200.0


def with_scores(given: Stream, scores: np.ndarray) -> Stream:
    return given._replace(outcomes=given.outcomes._replace(scores=scores))


def test_scores_of_models_that_were_not_chosen_change_nothing() -> None:
    given = stream()
    rows = order(len(given.questions), 1)
    first = play(given, POLICY, rows, WEIGHT)
    scores = 1.0 - given.outcomes.scores
    scores[first.rows, first.chosen] = given.outcomes.scores[first.rows, first.chosen]

    again = play(with_scores(given, scores), POLICY, rows, WEIGHT)

    assert np.array_equal(first.chosen, again.chosen)


def test_scores_of_later_questions_change_nothing_before_them() -> None:
    given = stream()
    rows = order(len(given.questions), 1)
    first = play(given, POLICY, rows, WEIGHT)
    scores = given.outcomes.scores.copy()
    scores[rows[40:]] = 1.0 - scores[rows[40:]]

    again = play(with_scores(given, scores), POLICY, rows, WEIGHT)

    assert np.array_equal(first.chosen[:41], again.chosen[:41])
    assert not np.array_equal(first.chosen, again.chosen)


def test_tokens_and_costs_of_models_that_were_not_chosen_change_nothing() -> None:
    given = stream()
    rows = order(len(given.questions), 1)
    first = play(given, POLICY, rows, WEIGHT)
    other = np.ones_like(given.outcomes.scores, dtype=bool)
    other[first.rows, first.chosen] = False
    changed = given.outcomes._replace(
        prompt_tokens=np.where(other, 9_000.0, given.outcomes.prompt_tokens),
        completion_tokens=np.where(other, 9_000.0, given.outcomes.completion_tokens),
        costs=np.where(other, 7.0, given.outcomes.costs),
    )

    again = play(given._replace(outcomes=changed), POLICY, rows, WEIGHT)

    assert np.array_equal(first.chosen, again.chosen)


def test_a_pass_can_be_repeated_and_another_order_draws_anew() -> None:
    given = stream()
    rows = order(len(given.questions), 0)

    first, again = (play(given, POLICY, rows, WEIGHT, number=0) for _ in range(2))
    other = play(given, POLICY, rows, WEIGHT, number=1)

    assert np.array_equal(first.chosen, again.chosen)
    assert not np.array_equal(first.chosen, other.chosen)


def test_what_can_be_learned_is_learned() -> None:
    given = stream(2_000)

    played = play(given, POLICY, order(2_000, 0), WEIGHT)

    late = played.rows[1_000:]
    is_hard = np.array([given.questions[row].complexity for row in late]) > 0
    to_large = played.chosen[1_000:] == 1
    assert to_large[is_hard].mean() > 0.9
    assert to_large[~is_hard].mean() < 0.1


def test_progress_counts_every_question_once() -> None:
    given = stream(250)
    seen: list[int] = []

    play(given, POLICY, order(250, 0), WEIGHT, advance=seen.append)

    assert sum(seen) == 250


def test_totals_of_parts_add_up_to_the_total_of_the_whole() -> None:
    given = stream(60)
    played = play(given, POLICY, order(60, 0), WEIGHT)
    halves = [Play(played.rows[part], played.chosen[part]) for part in (slice(25), slice(25, 60))]

    together = add(half.total(given.outcomes) for half in halves)

    assert together == pytest.approx(played.total(given.outcomes))


def test_point_is_the_mean_over_the_chosen_models() -> None:
    given = stream(50)
    played = play(given, POLICY, order(50, 3), WEIGHT)

    point = played.total(given.outcomes).point()

    pairs = list(zip(played.rows, played.chosen, strict=True))
    assert point.accuracy == pytest.approx(np.mean([given.outcomes.scores[pair] for pair in pairs]))
    assert point.cost == pytest.approx(np.mean([given.outcomes.costs[pair] for pair in pairs]))
    assert point.strong_share == np.mean(played.chosen == given.outcomes.strong)
