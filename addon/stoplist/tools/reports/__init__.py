"""Reports over closed periods: the requests that were stopped, and those that enforcing would have stopped.

`report` and `rollout` gather the numbers; the other modules write them as a table, CSV, JSON or HTML.
"""
