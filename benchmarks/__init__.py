"""What rendering costs, beside what it costs elsewhere: ratios measured side by side in one run.

Run from a checkout: `python -m benchmarks`, or `make bench`.
"""
