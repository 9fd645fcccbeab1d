"""The status of a gate: its lists, its CA, and its health at this moment.

The modules read the state directory, and ask the gate for its metrics. They change nothing but on demand.
"""
