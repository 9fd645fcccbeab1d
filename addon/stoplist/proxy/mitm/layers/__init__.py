"""Layers in mitmproxy's sense: events go in, commands come out, no I/O.

They choose the layers that serve a connection: before its first bytes, and after them.
"""
