"""Training of Fader Networks and attribute classifiers."""
