"""The self-test: whether a gate filters, as one of its clients sees it."""
