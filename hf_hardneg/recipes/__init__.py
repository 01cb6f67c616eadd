"""Recipes write down how a dataset was mined, so that it can be mined again."""
