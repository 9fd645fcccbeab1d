"""The signed list: its file format, its keyed digests, and the guard that holds a suspicious update.

The package takes bytes and returns a verified list. Nobody can read a domain of a list here.
"""
