"""The adapter to mitmproxy: hooks, layers, TLS, DNS, HTTP/3, and the master that runs them.

Only this package imports mitmproxy.
"""
