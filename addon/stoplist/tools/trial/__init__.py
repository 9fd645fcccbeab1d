"""The trial: what a policy would have done with the requests in logs."""
