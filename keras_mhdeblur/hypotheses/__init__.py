"""What K head images mean: pairs of them, and one image among the hypotheses."""
