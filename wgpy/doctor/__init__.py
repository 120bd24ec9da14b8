"""What a machine has for WireGuard, what it lacks, and the command that mends it.

`probe` looks (facts.py says for what), `checks` judges (vital.py, comfort.py), `words` prints.
"""
