"""Train with many sensors, deploy with one: co-learned single-modality students for edge computers."""

__version__ = "0.1.0"
