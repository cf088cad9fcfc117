"""Types of configuration values: what a name, a number or a choice may be.

No pattern ends with `$`, which would let a line feed follow.
"""

from typing import Annotated, Literal

import msgspec

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}\Z")]
"""A name that is also one NATS subject token."""
ModelName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/@+-]{0,127}\Z")]
SecretRef = Annotated[str, msgspec.Meta(pattern=r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:/.+)?\Z")]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
NonNegative = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
PositiveInt = Annotated[int, msgspec.Meta(ge=1)]
LearnedPolicy = Literal["matching", "igw", "thompson", "linucb", "epsilon-greedy", "greedy"]
PolicyName = Literal[LearnedPolicy, "static", "rules"]
Domain = Literal[
    "medical", "finance", "humanities", "legal", "maths", "code", "general", "science", "writing"
]
ModelWeights = dict[ModelName, Positive]
"""Models that are drawn in proportion to their weights."""
PreferenceText = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(quality|balanced|cheap|fast)?"
        r"((^|,)(cost|latency|max_cost_usd|max_latency_s)=[0-9][0-9.eE+-]*)*\Z"
    ),
]
"""A preference's name, numbers, or a name and numbers that change it."""
