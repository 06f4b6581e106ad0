"""The ``[bench]`` section: which users, items and spans `imsr bench` compares methods on."""

from __future__ import annotations

from dataclasses import dataclass

from imsr_core.fields import Section, documented


@dataclass(frozen=True)
class BenchSettings(Section):
    """What `imsr bench` compares methods on; no other command reads it.

    The filters count over the whole log, as the papers' do: they look ahead, alike for all methods. Their order is
    that of the keys.
    """

    max_users: int = documented(0, "a random sample of this many users; 0 = all", at_least=0)
    max_items: int = documented(0, "only the most frequent items; 0 = all", at_least=0)
    min_user_events: int = documented(
        0, "users with fewer events (of the items kept) are left out (the paper: 30)", at_least=0
    )
    tuning_spans: int = documented(
        2,
        "the first spans after pre-training: hyper-parameters may be chosen on them, so they are not reported",
        at_least=0,
    )
    matrix_users: int = documented(
        300, "users of each span that every version is scored on, for R[t, i]; 0 = no matrix", at_least=0
    )
    seed: int = documented(0, "of the sample of users", at_least=0, at_most=2**32 - 1)
