"""Scores: arrays in, plain numbers out; one file a kind of task."""
