"""Bandits: one decision at a time, with everything known about them worked out exactly."""
