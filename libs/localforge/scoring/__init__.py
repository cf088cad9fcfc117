"""Score an answer without a judge: checks of its form, and what they count for."""

from localforge.scoring.verdict import FAILED_BELOW, Verdict, judge

__all__ = ["FAILED_BELOW", "Verdict", "judge"]
