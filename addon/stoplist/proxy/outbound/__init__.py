"""Connections to servers: resolve a name, judge its addresses, connect, and track which connections are open.

Every TCP connection of the gate to a server begins here.
"""
