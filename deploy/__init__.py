"""What runs on the device: bundles, engines, checks. Never imports torch."""
