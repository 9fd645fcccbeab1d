"""The judgement: it takes values and returns values.

No I/O, no mitmproxy; the time is an argument. `decide` gives the verdict for hosts, `lists/` holds the signed list,
`policy/` the policy, and `wire/` reads what comes from the network.
"""
