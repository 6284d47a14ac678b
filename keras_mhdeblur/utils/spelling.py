"""Hints for mistyped names."""

import difflib


def did_you_mean(word, known):
    """' Did you mean ...?' for the known word nearest to a wrong one, or ''."""
    nearest = difflib.get_close_matches(str(word), known, n=1)
    return f" Did you mean {nearest[0]!r}?" if nearest else ""
