"""Levels and the recursive ridge against their closed forms."""

import numpy as np
import pytest

from localforge.bandit.prior import Level
from localforge.bandit.quality import QualityRegressor
from localforge.bandit.ridge import (
    COMMON_WEIGHT,
    LEVEL_DOUBT,
    LONGEST,
    NOISE,
    OWN_LEVEL_WEIGHT,
    RIDGE,
    SHARE_WEIGHT,
    SLOPE_DOUBT,
    SURPRISE,
    RidgeArms,
)

DIM = 6
GUESS = Level(0.5, 10.0)


def scored(arms, model, answers, seed=1):
    """Teach one arm and return what it was taught: designs, scores, levels it was taken from."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(answers):
        z = arms.design(rng.normal(size=DIM).astype("f4"))
        y, w = float(rng.random()), float(rng.uniform(0.1, 1))
        seen, total = (
            (arms.weights[arms.names.index(model)], arms.scores[arms.names.index(model)])
            if model in arms.names
            else (0.0, 0.0)
        )
        mean = (total + 0.5 * OWN_LEVEL_WEIGHT) / (seen + OWN_LEVEL_WEIGHT)
        level = (total + OWN_LEVEL_WEIGHT * mean) / (seen + OWN_LEVEL_WEIGHT)
        rows.append((z, y - level, w))
        arms.learn(model, z, y, w)
    return rows


def test_the_recursion_equals_the_closed_form():
    arms = RidgeArms(DIM)
    rows = scored(arms, "a", 60)
    gram = RIDGE * np.eye(arms.size) + sum(w * np.outer(z, z) for z, _, w in rows)
    theta = np.linalg.solve(gram, sum(w * r * z for z, r, w in rows))
    covariance = np.linalg.inv(gram)
    seen, residual = arms.weights[0], arms.scores[0]
    z = arms.design(np.random.default_rng(2).normal(size=DIM))

    means, stds, evidence, doubts = arms.predict(["a"], [GUESS], z)

    share = seen / (seen + GUESS.weight)
    common = share * (residual / seen - GUESS.score) / (COMMON_WEIGHT + share)
    level = (GUESS.weight * (GUESS.score + common) + residual) / (GUESS.weight + seen)
    shared = seen * theta / (seen + SHARE_WEIGHT) * SHARE_WEIGHT / (SHARE_WEIGHT + seen)
    assert means[0] == pytest.approx(level + z @ (theta + shared), abs=1e-9)
    spread, unsettled = z**2 @ np.diag(covariance), 1 / (GUESS.weight + seen)
    assert stds[0] == pytest.approx(np.sqrt(NOISE * (spread + unsettled)), abs=1e-9)
    worth = SLOPE_DOUBT * spread + LEVEL_DOUBT * unsettled
    assert doubts[0] == pytest.approx(np.sqrt(NOISE * worth), abs=1e-9)
    assert evidence == [pytest.approx(seen)]


def test_the_recursion_takes_each_product_of_the_gain_as_it_is():
    # A replay of old logs has to come to the same bits, so neither order nor rounding may change.
    arms, rng = RidgeArms(21), np.random.default_rng(5)
    size = arms.size
    covariance, moment = np.zeros((size, size)), np.zeros(size)
    np.fill_diagonal(covariance, 1 / RIDGE)
    for step in range(200):
        z = arms.design(rng.normal(size=21) * 10.0 ** rng.integers(-160, 1, size=21))
        weight = float(rng.uniform(0.01, 1))
        theta = np.vecdot(covariance, moment)
        slope = float(np.vecdot(theta, z))
        before = arms.scores[0] if step else 0.0

        arms.learn("a", z, 0.75, weight)

        gain = np.vecdot(covariance, z)
        variance = max(float(np.vecdot(gain, z)), 0.0)
        gain *= np.sqrt(weight / (1.0 + weight * variance))
        covariance -= np.multiply.outer(gain, gain)
        moment = arms.moment[0].copy()
        assert arms.scores[0] == before + weight * (0.75 - 0.0 - slope)
        assert arms.covariance[0].tobytes() == covariance.tobytes()
    assert (covariance == covariance.T).all()


def test_deciding_between_two_scores_changes_nothing():
    asked, unasked, rng = RidgeArms(DIM), RidgeArms(DIM), np.random.default_rng(3)
    names = ["a", "b", "new"]
    for step in range(60):
        z, score = asked.design(rng.normal(size=DIM)), float(rng.random())
        for arms in (asked, unasked):
            arms.learn(names[step % 2], z, score, 1.0)
        asked.predict(names, [GUESS] * 3, z)

    assert asked.predict(names, [GUESS] * 3, z) == unasked.predict(names, [GUESS] * 3, z)
    assert [a.tobytes() for a in asked.arrays()] == [a.tobytes() for a in unasked.arrays()]


def test_a_model_nobody_scored_borrows_what_all_models_share():
    arms = RidgeArms(DIM)
    hard, easy = arms.design(np.eye(DIM)[1]), arms.design(np.eye(DIM)[2])

    assert arms.predict(["new"], [Level(0.7, 10.0)], hard)[0] == [pytest.approx(0.7)]

    for _ in range(200):
        arms.learn("old", hard, 0.0, 1.0)
        arms.learn("old", easy, 1.0, 1.0)

    low, high = (arms.predict(["new"], [GUESS], z)[0][0] for z in (hard, easy))
    assert high > low + 0.3
    assert arms.predict(["new"], [GUESS], easy)[2] == [0.0]


def test_scores_above_expectation_lift_the_models_that_were_not_asked_yet():
    arms = RidgeArms(DIM)
    for _ in range(100):
        arms.learn("known", arms.blank(), 0.9, 1.0)

    known, new = arms.predict(["known", "new"], [GUESS, GUESS], arms.blank())[0]

    assert known == pytest.approx(0.87, abs=0.02)
    assert 0.55 < new < known


def test_much_evidence_outweighs_any_prior():
    arms = RidgeArms(DIM)
    for _ in range(3000):
        arms.learn("m", arms.blank(), 0.25, 1.0)

    for prior in (0.0, 1.0):
        level = Level(prior, 10.0)
        assert arms.predict(["m"], [level], arms.blank())[0][0] == pytest.approx(0.25, abs=0.01)


def taught(answers, score, level):
    """Return the predicted mean of a model after so many answers of one score."""
    arms = RidgeArms(DIM)
    for _ in range(answers):
        arms.learn("m", arms.blank(), score, 1.0)
    return arms.predict(["m"], [level], arms.blank())[0][0]


def test_a_figure_on_a_card_is_kept_until_the_scores_contradict_it_and_then_soon_given_up():
    firm = Level(0.8, 2000.0)

    # 30 answers of 0.6 are within three standard errors of what the card says, 150 are not.
    assert 30 * 0.2**2 / NOISE < SURPRISE < 150 * 0.2**2 / NOISE
    assert taught(30, 0.6, firm) > 0.7
    assert taught(150, 0.6, firm) == pytest.approx(0.6, abs=0.05)
    # Beside 2,000 answers these 150 would hardly be seen, were they not so far off.
    assert taught(150, 0.78, firm) == pytest.approx(taught(0, 0.78, firm), abs=0.02)


def test_a_model_whose_level_is_known_is_slow_to_be_told_apart_by_request():
    arms = RidgeArms(DIM)
    z = arms.design(np.eye(DIM)[1])
    for _ in range(100):
        arms.learn("m", z, 1.0, 1.0)
        arms.learn("m", -z, 0.0, 1.0)

    bold, cautious = (
        arms.predict(["m"], [Level(0.5, 10.0, caution)], z)[0][0] for caution in (0.0, 450.0)
    )

    assert 0.5 < cautious < bold


def test_the_order_and_number_of_models_asked_for_does_not_change_what_is_learned_of_each():
    rng = np.random.default_rng(2)
    arms = RidgeArms(128)
    names = [f"m{i}" for i in range(20)]
    for step in range(100):
        arms.learn(names[step % 20], arms.design(rng.normal(size=128)), float(rng.random()), 1.0)
    z = arms.design(rng.normal(size=128))

    forward = arms.predict(names, [GUESS] * 20, z)
    backward = arms.predict(names[::-1], [GUESS] * 20, z)

    assert forward[1] == backward[1][::-1]
    np.testing.assert_allclose(forward[0], backward[0][::-1], rtol=0, atol=1e-12)


def test_a_product_has_the_same_bits_wherever_its_numbers_lie_in_memory():
    rng = np.random.default_rng(9)
    matrix, z = rng.normal(size=(129, 129)), rng.normal(size=129)
    expected = np.vecdot(matrix, z).tobytes()
    for shift in range(1, 9):
        memory = np.empty(129 * 130 + shift)
        moved = memory[shift : shift + 129 * 129].reshape(129, 129)
        moved[...] = matrix
        other = memory[shift + 129 * 129 : shift + 129 * 130]
        other[...] = z

        assert np.vecdot(moved, other).tobytes() == expected


def test_covariances_stay_symmetric_and_positive_after_many_updates():
    rng = np.random.default_rng(3)
    arms = RidgeArms(DIM)
    for _ in range(3000):
        arms.learn("m", arms.design(rng.normal(size=DIM) * 3), float(rng.random()), 1.0)

    covariance = arms.covariance[0]
    assert np.array_equal(covariance, covariance.T)
    assert np.linalg.eigvalsh(covariance).min() > 0


def test_a_long_feature_vector_is_shortened_and_one_that_is_not_finite_refused():
    arms = RidgeArms(DIM)

    assert np.linalg.norm(arms.design(np.full(DIM, 3e38, "f4"))) == pytest.approx(LONGEST)
    assert arms.design(np.array([np.nan] * DIM, "f4")) is None
    assert arms.design(np.array([np.inf] * DIM, "f4")) is None


def test_the_arm_that_learned_longest_ago_gives_way():
    arms = RidgeArms(DIM, max_arms=2)
    for name in ("a", "b", "a", "c"):
        arms.learn(name, arms.blank(), 1.0, 1.0)

    assert arms.predict(["a", "b", "c"], [GUESS] * 3, arms.blank())[2] == [2.0, 0.0, 1.0]
    assert arms.names == ["a", "c"]


def test_as_a_river_regressor_it_learns_clones_empty_and_refuses_bad_samples():
    regressor = QualityRegressor(DIM)
    x = {"model": "m", "features": np.zeros(DIM), "prior": 0.5}
    for _ in range(100):
        regressor.learn_one(x, 1.0)

    assert regressor.predict_one(x) > 0.9
    assert regressor.clone().predict_one(x) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="y in"):
        regressor.learn_one(x, 1.5)
