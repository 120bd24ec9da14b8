"""Paired measurements of wgpy against other implementations, and the tables made from them.

    python -m bench                     measure everything, in a few minutes; root only
    python -m bench --only tcp,rtt      only these
    python -m bench report FILE         the table again, and a plot, from the raw numbers

Each measure takes one sample of each contender in turn, A B A B, because a shared machine speeds
up and slows down: only what was measured in the same minute compares. The ratio is taken pair by
pair, and its spread says how far to believe it.
"""
