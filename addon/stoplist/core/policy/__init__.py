"""The policy: the YAML document, the models that read it strictly, and the differences between two of them.

`models` is the reference of all keys, `values` of the forms of values, and `text` explains errors with their place.
"""
