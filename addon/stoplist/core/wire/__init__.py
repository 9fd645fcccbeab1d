"""The strict parsers of network input: the head of a request, a ClientHello, the first bytes of a tunnel.

Each takes values and returns values. A parser here accepts the input that every reader reads in one way, and refuses
the rest.
"""
