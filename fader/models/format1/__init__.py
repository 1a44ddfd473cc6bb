"""Models of format 1 and the rules that mended them, only until the packaged one is of format 2."""
