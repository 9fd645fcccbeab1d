"""The running gate: the only package that imports mitmproxy."""
