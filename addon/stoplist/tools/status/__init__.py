"""The status of a gate: its lists, its CA, and how it is at this moment."""
