"""The self-test: whether a gate filters, as one of its clients sees it.

`checks` does the checks through `proxy_client`; `self_test` holds their results, and `results` reads lines of them.
"""
