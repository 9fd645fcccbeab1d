"""Several processes that serve one gate: the supervisor, its workers, and the channel between them.

The supervisor owns files, sockets and counts; a worker serves clients. They exchange single letters and file handles.
"""
