"""What the vehicle does: by what its own sensors say, and without that by the motion in the pictures."""
