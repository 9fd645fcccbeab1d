"""What is read off the network, strictly: the head of a request, a ClientHello, the first bytes of a tunnel.

Values in, values out. A parser here accepts what every reader reads in one way, and refuses the rest.
"""
