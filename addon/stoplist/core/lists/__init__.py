"""The signed list: its file format, its keyed digests, and the guard that holds a suspicious update.

Bytes in, a verified list out. No domain of a list is ever readable here.
"""
