"""From anomaly scores of normal images to p-values, a threshold and verdicts."""
