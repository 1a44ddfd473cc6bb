"""From a photo to aligned face crops, and back."""
