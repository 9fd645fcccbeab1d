"""The hooks of mitmproxy that judge: connections, tunnels, TLS and requests.

A hook asks `proxy/judge.py` and carries the verdict out. A hook that raises refuses its request.
"""
