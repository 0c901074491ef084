"""`python -m mlfsic_bench` is the same program as the console script `mlfsic-bench`."""

from mlfsic_bench.cli.main import main

if __name__ == "__main__":
    main()
