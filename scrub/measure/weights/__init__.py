"""What the weights say: composition, and what heads read of each other."""
