"""What a publisher does: read domains, make keys, build a list, sign it, verify it."""
