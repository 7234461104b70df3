"""Where predictions go: tables, anomaly maps, the report and its figures."""

from ganomaly.outputs.heat import overlay, to_8_bit
from ganomaly.outputs.maps import MapFolder
from ganomaly.outputs.tables import COLUMNS, check_table_path, open_table

__all__ = ["COLUMNS", "MapFolder", "check_table_path", "open_table", "overlay", "to_8_bit"]
