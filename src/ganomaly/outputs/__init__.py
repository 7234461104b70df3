"""Where verdicts go: CSV, JSON lines and Parquet tables, and anomaly maps."""

from ganomaly.outputs.heat import as_8_bit, overlay
from ganomaly.outputs.maps import ImageFolders, MapFolder, MapFormat, at_image_size
from ganomaly.outputs.tables import ScoreRow, check_table_path, open_table, score_row

__all__ = [
    "ImageFolders",
    "MapFolder",
    "MapFormat",
    "ScoreRow",
    "as_8_bit",
    "at_image_size",
    "check_table_path",
    "open_table",
    "overlay",
    "score_row",
]
