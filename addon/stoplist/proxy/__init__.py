"""The running gate. Of its packages only `mitm` imports mitmproxy.

`lane/` serves tunnels that pass, `mitm/` everything else; both ask `judge`. `outbound/` connects to servers, `reload/`
takes up files, `counting/` counts, `workers/` runs several processes, and `log/` writes.
"""
