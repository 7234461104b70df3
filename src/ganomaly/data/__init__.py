"""Where images come from: folders, MVTec AD layout, parquet, arrays; decoded and at the network's size."""
