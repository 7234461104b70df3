"""Where images come from: folders, MVTec AD layout, parquet, arrays."""
