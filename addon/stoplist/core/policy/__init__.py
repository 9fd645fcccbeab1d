"""The policy: the YAML document, the models that read it strictly, and the differences between two of them."""
