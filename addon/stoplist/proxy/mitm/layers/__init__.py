"""Layers in mitmproxy's sense: events go in, commands come out, no I/O.

First layers serve a connection before its first bytes, next layers after them.
"""
