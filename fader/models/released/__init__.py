"""The autoencoders that the authors of Fader Networks released in 2017, read as inert data."""
