"""The pages a CS team opens in the morning: rendered here, nothing loaded from a network, no script."""
