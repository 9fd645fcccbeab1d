"""What people run beside the gate."""
