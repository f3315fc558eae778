"""How far a destination's trouble reaches: healthy routes beside hostile ones, against the same routes without them."""
