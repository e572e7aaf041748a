"""Which model tells best who will leave, and whether it may replace the one in use."""
