"""Logs: what other programs wrote of requests, read fast, in bounded memory, and told to nobody.

`inputs` opens and decompresses, `formats` knows lines, `stamps` knows times, `har`, `flows` and `table` read what
has no lines of its own, and `reading` puts them together.
"""
