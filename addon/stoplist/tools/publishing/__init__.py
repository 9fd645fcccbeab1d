"""The tools for a publisher of lists.

They read domains, make keys, and build, sign and verify a list.
"""
