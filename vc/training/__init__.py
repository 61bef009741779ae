"""Training: batches, the loop, and one task for each network that is trained."""
