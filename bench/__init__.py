"""Paired measurements of wgpy against other implementations, and the tables made from them.

    python -m bench                     the usual measures against everyone, in hours; root only
    python -m bench --only tcp,rtt      only these
    python -m bench report FILE         the tables again, and plots, from the raw numbers

Each measure takes one sample of each contender in turn, A B B A, because a shared machine speeds
up and slows down: only what was measured in the same minute compares. The ratio is taken pair by
pair, and its spread says how far to believe it. README.md says what the figures mean.
"""
