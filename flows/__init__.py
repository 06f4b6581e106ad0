"""Prefect flows and the command line: thin over `pipelines`."""

import os

# Threads that wait for each other by spinning cost twice the CPU, and where another process wants the cores too, they
# are slower as well. It must be said before torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
