"""All panels, or some scripts: ``python -m benchmarks.paper all --model mini --data ../shared/data``."""

from ._run import main

if __name__ == "__main__":
    main()
