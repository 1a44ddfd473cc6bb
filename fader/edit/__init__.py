"""Editing photos with a trained model."""
