"""What runs the networks: PyTorch or ONNX Runtime. Arrays go in and come out."""
