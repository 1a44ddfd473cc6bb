"""Annotated faces: reading them, preparing them, drawing them."""
