"""From verdicts to counts over closed periods.

Each process counts in memory that it shares; one process adds the counts to the state once a minute.
This package sees no host and no client.
"""
