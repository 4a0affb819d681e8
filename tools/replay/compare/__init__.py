"""Two models on the same frames: where they disagree, in figures and in pictures."""
