"""Reports over closed periods: what was stopped, and what enforcing would have stopped."""
