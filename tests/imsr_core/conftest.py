"""Tests of the core: one thread, and hypothesis draws the same examples in every run."""

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("core", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("core")
