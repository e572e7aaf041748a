"""What we knew about each account at an instant, and what happened next."""
