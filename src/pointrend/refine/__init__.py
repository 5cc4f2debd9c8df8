"""Refinement of masks that come from anywhere."""
