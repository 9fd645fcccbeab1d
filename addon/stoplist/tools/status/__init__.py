"""The status of a gate: its lists, its CA, and its health at this moment."""
