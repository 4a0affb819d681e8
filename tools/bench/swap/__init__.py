"""`bench swap` and `bench update`: what a change of model costs the frames, and how soon it is there."""
