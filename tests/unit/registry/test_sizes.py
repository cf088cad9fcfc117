"""The size of a model: read off its name, and what it lets expect."""

import math
import tomllib

import pytest

from localforge.benchmark.cards import FILE
from localforge.registry.sizes import PER_DECADE, prior_of_size, size_in_name

SIZES = {
    "Phi-3.5-mini-instruct": 3.8,
    "Mistral-Nemo-Instruct-2407": 12.2,
    "deepseek-v2.5-0908": 236.0,
}
"""Of models in the benchmark's cards whose names do not tell it."""


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("llama3.1:8b", 8.0),
        ("llama3.1:70b-instruct-q4_K_M", 70.0),
        ("Qwen/Qwen2.5-72B-Instruct-AWQ", 72.0),
        ("HuggingFaceTB/SmolLM2-1.7B-Instruct", 1.7),
        ("smollm2-135m", 0.135),
        ("snowflake-arctic-embed:335M", 0.335),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", 56.0),
        ("mixtral-8x22b", 176.0),
        ("Qwen3-30B-A3B", 30.0),
        ("glm-4-9b-chat-1m", 9.0),
        ("deepseek-r1:1.5b", 1.5),
        ("models/gemma_2_27b/int8", 27.0),
        ("gpt-4o-mini", None),
        ("claude-3-5-sonnet-20240620", None),
        ("gemini-1.5-pro-1m", None),
        ("whisper-4bit", None),
        ("bge-m3", None),
        ("phi-0b", None),
        ("", None),
    ],
)
def test_a_size_is_read_off_the_usual_names_and_no_other(name, billions):
    assert size_in_name(name) == (None if billions is None else pytest.approx(billions))


def test_a_larger_model_is_expected_to_be_better_within_bounds():
    sizes = [0.001, 0.135, 1, 3.8, 8, 70, 405, 1000, 100_000]
    priors = [prior_of_size(size) for size in sizes]

    assert priors == sorted(priors)
    assert (priors[0], priors[-1]) == (0.2, 0.7)
    assert prior_of_size(8) == pytest.approx(0.48, abs=0.005)
    assert prior_of_size(70) == pytest.approx(0.575, abs=0.005)


def test_the_slope_is_that_of_the_published_scores_of_open_models():
    scores = tomllib.loads(FILE.read_text())["mmlu"]
    points = [
        (math.log10(size), score)
        for name, score in scores.items()
        if (size := SIZES.get(name) or size_in_name(name))
    ]
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / sum(
        (x - mean_x) ** 2 for x, _ in points
    )

    assert len(points) == 10
    assert slope == pytest.approx(PER_DECADE, abs=0.01)
