"""Where verdicts go: CSV, JSON lines and Parquet tables, and anomaly maps."""

from ganomaly.outputs.maps import MapFolder
from ganomaly.outputs.tables import ScoreRow, open_table, score_row

__all__ = ["MapFolder", "ScoreRow", "open_table", "score_row"]
