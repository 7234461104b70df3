"""The detector by the conventions of other libraries: `ganomaly.adapters.pyod`, `ganomaly.adapters.anomalib`."""
