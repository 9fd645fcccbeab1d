"""Reports over closed periods: the requests that were stopped, and those that enforcing would have stopped.

`report` and `rollout` gather the numbers. `tools/output` writes them.
"""
