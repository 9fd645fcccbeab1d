"""The running gate. Of its packages only `mitm` imports mitmproxy."""
