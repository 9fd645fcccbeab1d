"""Stoplist: an egress proxy add-on that enforces a signed list of domains and records nobody."""

__version__ = "0.1.0"
