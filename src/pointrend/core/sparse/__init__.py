"""Sparse rendering: the labels of `core.subdivision`, computed near boundaries only. The paper itself is in `core`."""
