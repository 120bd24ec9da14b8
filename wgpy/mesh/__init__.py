"""A network of nodes that find each other: who is in it, where each is, and who says so."""
