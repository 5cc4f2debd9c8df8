"""`python -m pointrend` and `torchrun -m pointrend` are the command `pointrend`."""

from pointrend.cli import main

if __name__ == "__main__":
    main()
