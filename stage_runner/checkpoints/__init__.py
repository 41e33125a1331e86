"""Checkpoints as bytes, without pickle, and their writer."""
