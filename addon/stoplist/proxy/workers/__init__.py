"""Several processes that serve one gate: the supervisor, its workers, and the channel between them."""
