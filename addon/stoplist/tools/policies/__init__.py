"""The tools for an admin's policy.

They begin a policy, check it, compare it with another one, look up hosts in it, and show its stop page.
"""
