"""The networks, and how a trained model is saved and found again."""
