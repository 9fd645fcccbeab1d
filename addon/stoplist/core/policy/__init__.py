"""The policy: the YAML document, the models that read it strictly, and what differs between two of them."""
