"""What wg-quick does: one interface up or down, each step recorded before it is taken."""
