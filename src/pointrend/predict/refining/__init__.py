"""Refinement of a binary mask in windows along its outline."""
