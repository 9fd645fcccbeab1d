"""Layers in mitmproxy's sense: events go in, commands come out, no I/O.

They decide what serves a connection: before its first bytes, and after them.
"""
