"""Masks to learn refinement from: true ones with their images, and what is done to them."""
