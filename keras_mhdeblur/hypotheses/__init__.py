"""Meaning of K head images: pairs of them, and one image among the hypotheses."""
