"""The tools for an admin's policy: begin one, check it, compare it, look up hosts in it, look at its stop page."""
