"""Search for the options with which a preset finds defects best, from normal images alone (`ganomaly tune`)."""

from ganomaly.tuning.objective import Measure, Objective
from ganomaly.tuning.space import SearchSpace
from ganomaly.tuning.study import SearchOptions, SearchResult, TrialSummary, search

__all__ = ["Measure", "Objective", "SearchOptions", "SearchResult", "SearchSpace", "TrialSummary", "search"]
