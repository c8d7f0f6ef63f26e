"""Causal imitation: experts who see what the learner does not."""
