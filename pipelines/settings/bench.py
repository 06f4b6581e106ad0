"""The ``[bench]`` section: which users, items and spans `imsr bench` compares methods on."""

from __future__ import annotations

from dataclasses import dataclass

from imsr_core.errors import ConfigError
from imsr_core.fields import documented


@dataclass(frozen=True)
class BenchSettings:
    """What `imsr bench` compares methods on; no other command reads it.

    The filters count over the whole log, as the papers' do: they look ahead, alike for all methods. Their order is
    that of the keys.
    """

    max_users: int = documented(0, "a random sample of this many users; 0 = all")
    max_items: int = documented(0, "only the most frequent items; 0 = all")
    min_user_events: int = documented(0, "users with fewer events (of the items kept) are left out (the paper: 30)")
    tuning_spans: int = documented(
        2, "the first spans after pre-training: hyper-parameters may be chosen on them, so they are not reported"
    )
    matrix_users: int = documented(
        300, "users of each span that every version is scored on, for R[t, i]; 0 = no matrix"
    )
    seed: int = documented(0, "of the sample of users")

    def __post_init__(self) -> None:
        for key in ("max_users", "max_items", "min_user_events", "tuning_spans", "matrix_users", "seed"):
            if getattr(self, key) < 0:
                raise ConfigError(f"[bench] {key} = {getattr(self, key)}: must be 0 or more")
