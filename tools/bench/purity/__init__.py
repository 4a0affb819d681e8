"""`bench purity`: what the purity check finds of what was planted."""
