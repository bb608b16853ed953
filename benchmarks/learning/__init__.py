"""Learning from votes, under attack."""
