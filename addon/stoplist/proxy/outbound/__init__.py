"""Connections to servers: resolve a name, judge the address, connect, and know which connections are open.

Every TCP connection of the gate begins here.
"""
