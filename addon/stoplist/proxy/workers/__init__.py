"""Several processes that serve one gate: the supervisor, its workers, and what they hand to each other."""
