"""What to do about a risk: plays, and the rules that choose among them."""
