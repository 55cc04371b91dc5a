"""Agreement with transformers, value by value."""
