"""The lane: the fast path for tunnels that pass.

It takes a CONNECT, judges the first bytes in the tunnel, and relays the rest without mitmproxy.
"""
