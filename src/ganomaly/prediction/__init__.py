"""What a model says of images: the one prediction loop, and what predicts."""
