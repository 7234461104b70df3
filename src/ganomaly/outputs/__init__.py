"""Where verdicts go: CSV, JSON lines and Parquet tables, and anomaly maps."""

from ganomaly.outputs.maps import MapFolder, at_image_size
from ganomaly.outputs.tables import ScoreRow, check_table_path, open_table, score_row

__all__ = ["MapFolder", "ScoreRow", "at_image_size", "check_table_path", "open_table", "score_row"]
