"""Exact folding, quantization, fine-tuning with the objectives alive, and export to ONNX."""
