"""The hooks of mitmproxy: they read names from its events, ask the judge, and carry out the verdict.

  client_connected   checks that the policy admits the client, and sets the first layer (see layers/first_layers.py)
  next_layer         recognises the client's first bytes (see core/wire/openings.py)

A tunnel (CONNECT, SOCKS, transparent)             A plain HTTP request
  http_connect      judge the target                 requestheaders  judge the target and Host
    stop: answer 200, contact nobody                   stop: the page
    refuse: an error                                   refuse: an error
  tls_clienthello   judge the target and the SNI
    pass: relay the bytes, undecrypted             Both
    stop: a certificate made on the spot, then       server_connect  the last check: no connection
      `requestheaders` serves the page                 to a listed host, whatever led there

Rules
  - The hooks judge every name that a request claims; the strictest verdict wins.
  - A hook that raises refuses its request: each hook that decides is `guarded`.
  - The gate decrypts for listed hosts only, unless the policy says `tls: intercept`.
  - Where a tunnel ends at the gate, for a page, the gate forwards nothing that came in it. A parent proxy gets
    nothing of it either.
  - No hook keeps, logs or raises with a host, a URL or an address. Only `connections` keeps hosts: those of the
    connections that are open.
"""
