"""From normal images to a model."""
