"""What a file of outcomes tells the router of a question before it is asked."""

import numpy as np

from localforge.benchmark import priors
from localforge.benchmark.outcomes import Outcomes
from localforge.benchmark.stream import Stream

PROMPTS = ("What is 2 + 2?", "Name a bone of the hand.", "Why is the sky blue? " * 30, "Hi")
MODELS = ("small", "middle", "large")


def read(tokens: np.ndarray, models: tuple[str, ...] = MODELS) -> Stream:
    shape = (len(PROMPTS), len(models))
    given = Outcomes(
        name="told",
        query_ids=tuple(f"q{row}" for row in range(len(PROMPTS))),
        prompts=PROMPTS,
        models=models,
        scores=np.full(shape, 0.5),
        costs=np.tile([0.001 * (k + 1) for k in range(len(models))], (len(PROMPTS), 1)),
        prompt_tokens=np.tile(tokens[:, None], (1, len(models))),
        completion_tokens=np.ones(shape),
        answers=((),) * len(models),
        strong=len(models) - 1,
        cheapest=0,
    )
    (only,) = priors.make_streams(given, priors.NONE, {}, lambda _: None)
    return only


def counted(stream: Stream) -> list[int]:
    return [question.prompt_tokens for question in stream.questions]


def test_the_tokens_that_were_billed_for_a_question_are_not_told_before_it_is_asked() -> None:
    tokens = np.array([900.0, 500.0, 700.0, 100.0])

    assert read(tokens).questions == read(tokens[::-1]).questions


def test_what_was_sent_around_questions_counts_alike_for_all() -> None:
    unknown = counted(read(np.full(len(PROMPTS), np.nan)))
    known = counted(read(np.full(len(PROMPTS), 900.0)))

    assert len({more - own for more, own in zip(known, unknown, strict=True)}) == 1
    assert abs(np.mean(known) - 900) < 1


def test_with_two_models_every_call_has_the_same_length() -> None:
    tokens = np.array([900.0, 500.0, 700.0, 100.0])

    assert set(counted(read(tokens, ("small", "large")))) == {550}
