"""The paper's figures, one script for each group of panels; ``python -m benchmarks.paper all`` makes a report of all.

Each script has ``PANELS`` (what it makes, and what the paper says of it) and ``make(run)``, and can be run alone.
Options that no other one has are added by its ``add_options(parser)``.
"""
