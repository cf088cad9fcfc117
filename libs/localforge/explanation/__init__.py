"""Decisions in words: why, by how much, and what would have tipped them."""

from localforge.explanation.cascade import CascadeTold, Case
from localforge.explanation.decision import Explanation, Tipping, explain

__all__ = ["CascadeTold", "Case", "Explanation", "Tipping", "explain"]
