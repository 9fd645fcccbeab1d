"""The trial: what a policy would have done with the requests in logs.

`logs/` reads the formats, `trial` judges and counts, and `trial_output` writes numbers that tell of nobody.
"""
