"""Paired data sets, encoders, the co-learning model, its objectives and the training loop."""
