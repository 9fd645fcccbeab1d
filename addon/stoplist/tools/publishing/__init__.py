"""The tools for a publisher: read domains, make keys, build a list, sign it, verify it."""
