"""The log: the records that a gate can write, and the allow-list that lets nothing else out.

A record is a typed value. No record has a field for a host, an address or a URL of a request.
"""
