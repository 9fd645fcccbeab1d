"""Reports over closed periods: the requests that were stopped, and those that enforcing would have stopped."""
