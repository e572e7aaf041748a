"""Who is at risk today, why, what to do about it, and whether it helped."""
