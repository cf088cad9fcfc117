"""A model that silently changes is noticed, forgotten and tried again."""

import numpy as np
import pytest

from localforge.bandit.drift import LONGEST, DriftDetector
from localforge.bandit.prior import Level
from localforge.bandit.ridge import RidgeArms

SEED = 11
DIM = 8


def scored(arms: RidgeArms, rng: np.random.Generator, share: float, count: int) -> int | None:
    """Give one model scores that are good with this share; return when it was found changed."""
    for number in range(1, count + 1):
        z = arms.design(rng.normal(size=DIM) / 3)
        assert z is not None
        if arms.learn("m", z, float(rng.random() < share), 1.0):
            return number
    return None


@pytest.mark.parametrize(
    ("before", "after", "scores", "least"),
    [
        pytest.param(0.9, 0.5, 100, 0.95, id="much worse, soon"),
        pytest.param(0.9, 0.5, 800, 0.95, id="much worse"),
        pytest.param(0.7, 0.9, 800, 0.9, id="better"),
        # The change is a third of a single score's standard deviation.
        pytest.param(0.85, 0.7, 800, 0.5, id="a little worse"),
    ],
)
def test_most_silent_changes_are_noticed_within_two_hundred_scores(before, after, scores, least):
    """Share of 30 seeds; the larger the change and the longer the past, the surer."""
    noticed = 0
    for seed in range(30):
        arms, rng = RidgeArms(DIM), np.random.default_rng([SEED, seed])
        assert scored(arms, rng, before, scores) is None
        noticed += scored(arms, rng, after, 200) is not None
    print("seeds", [SEED, "0..29"], "noticed", noticed)

    assert noticed >= least * 30


def test_steady_models_are_not_found_changed():
    """Five models of different quality, 4,000 scores each: no alarm in 20,000."""
    for seed, share in enumerate((0.05, 0.3, 0.5, 0.7, 0.95)):
        rng = np.random.default_rng([SEED, seed])
        assert scored(RidgeArms(DIM), rng, share, 4000) is None


def test_a_silent_change_is_noticed_within_two_hundred_scores_and_makes_room_for_doubt():
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    arms = RidgeArms(8)
    guess = Level(0.5, 10.0)
    for _ in range(800):
        z = arms.design(rng.normal(size=8) / 3)
        assert not arms.learn("m", z, float(rng.random() < 0.9), 1.0)
    before = arms.predict(["m"], [guess], arms.blank())
    noticed = next(
        number
        for number in range(1, 1000)
        if arms.learn("m", arms.design(rng.normal(size=8) / 3), float(rng.random() < 0.5), 1.0)
    )
    after = arms.predict(["m"], [guess], arms.blank())

    assert noticed <= 200
    assert after[1][0] > 5 * before[1][0]
    assert after[2] == [0.0]


def test_a_steady_model_is_hardly_ever_found_changed():
    rng = np.random.default_rng(SEED)
    detectors = [DriftDetector() for _ in range(20)]
    alarms = sum(d.update(float(rng.random() < 0.7)) for d in detectors for _ in range(2000))

    assert alarms <= 2


def test_a_detector_made_from_another_ones_errors_goes_on_alike():
    rng = np.random.default_rng(SEED)
    errors = [float(rng.normal(0.4 * (step > 1500), 0.2)) for step in range(2000)]
    for cut in (0, 10, LONGEST - 1, LONGEST, LONGEST + 1, 1490):
        whole, first = DriftDetector(), DriftDetector()
        for error in errors[:cut]:
            whole.update(error)
            first.update(error)
        second = DriftDetector(first.errors)

        assert [second.update(e) for e in errors[cut:]] == [whole.update(e) for e in errors[cut:]]
        assert second.errors == whole.errors
