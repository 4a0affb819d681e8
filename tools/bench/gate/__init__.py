"""How often the release gate is wrong, and how often right: simulated by resampling real detections."""
