"""Latency, accuracy and energy, measured on the engine that is deployed. Never imports torch."""
