"""How a dataset was mined, written down so that it can be mined again."""
