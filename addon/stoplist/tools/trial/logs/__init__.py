"""Logs: requests that other programs wrote down, read fast and in bounded memory, and disclosed to nobody.

`inputs` opens and decompresses, `formats` knows lines, and `stamps` knows times. `har`, `flows` and `table` read
formats that are not made of lines, and `reading` puts them together.
"""
