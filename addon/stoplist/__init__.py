"""Stoplist: an egress proxy add-on that enforces a signed list of domains and records nobody.

`core/` judges, `proxy/` is the running gate, `page/` its stop page, `tools/` and `cli/` the commands beside it.
docs/architecture.md has the map.
"""

__version__ = "0.1.0"
