"""From changed files to a ruleset in force.

It watches the files of a policy, loads and verifies them off the event loop, and puts them into force at once.
"""
