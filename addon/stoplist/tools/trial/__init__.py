"""The trial: what a policy would have done with the requests in logs.

`logs/` reads the formats, and `trial` judges and counts. `tools/output` writes numbers that tell of nobody.
"""
