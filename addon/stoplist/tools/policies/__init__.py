"""What an admin does with a policy: begin one, check it, compare it, ask it, look at its stop page."""
