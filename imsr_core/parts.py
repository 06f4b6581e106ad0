"""Every part that a setting names, one line each: a new one is one file and one line here.

What is listed is imported when it is used; see `registry` for how another package adds its own.
"""

from __future__ import annotations

from typing import Any

from imsr_core.registry import Registry

#: What reads interests from items (`extractors.protocol.Extractor`).
EXTRACTORS: Registry[Any] = Registry(
    "extractor",
    "imsr.extractors",
    {
        "comirec-dr": "imsr_core.extractors.routing:DynamicRoutingExtractor",
        "comirec-sa": "imsr_core.extractors.attention:SelfAttentionExtractor",
        "mind": "imsr_core.extractors.routing:MindExtractor",
    },
)

#: Strategies for a chain of spans: they go on from M_{t-1} and learn the span (`strategies.protocol.Strategy`).
STRATEGIES: Registry[Any] = Registry(
    "strategy",
    "imsr.strategies",
    {
        "imsr": "imsr_core.strategies.imsr:imsr",
        "elastic": "imsr_core.strategies.elastic:elastic",
        "fine_tune": "imsr_core.strategies.fine_tune:fine_tune",
        "sml": "imsr_core.strategies.sml:sml",
        "ader": "imsr_core.strategies.ader:ader",
    },
)

#: Strategies that begin a new chain from the whole history.
STARTING_OVER: Registry[Any] = Registry(
    "strategy", "imsr.strategies_starting_over", {"full_retrain": "imsr_core.strategies.full_retrain:full_retrain"}
)

#: Strategies that learn nothing after pre-training: what learning must beat.
FLOORS: Registry[Any] = Registry("strategy", "imsr.floors", {"frozen": "imsr_core.strategies.frozen:frozen"})

#: What reads a user's sequence for the `users` line (`encoders.protocol.Encoder`).
ENCODERS: Registry[Any] = Registry(
    "encoder",
    "imsr.encoders",
    {
        "nextitnet": "imsr_core.encoders.nextitnet:NextItNet",
        "grec": "imsr_core.encoders.grec:GRec",
        "sasrec": "imsr_core.encoders.sasrec:SASRec",
        "gru4rec": "imsr_core.encoders.gru4rec:GRU4Rec",
        "dssm": "imsr_core.encoders.dssm:DSSM",
    },
)

#: How one encoder of users learns task after task (`lifelong.protocol.LifelongMethod`): methods and baselines.
METHODS: Registry[Any] = Registry(
    "lifelong method",
    "imsr.lifelong_methods",
    {
        "conure": "imsr_core.lifelong.methods.conure:Conure",
        "peterrec": "imsr_core.lifelong.methods.peterrec:PeterRec",
        "teracon": "imsr_core.lifelong.methods.teracon:Teracon",
        "sinmo": "imsr_core.lifelong.methods.baselines:SinMo",
        "dnn": "imsr_core.lifelong.methods.baselines:DNN",
        "sinmoall": "imsr_core.lifelong.methods.baselines:SinMoAll",
        "finesmax": "imsr_core.lifelong.methods.baselines:FineSmax",
        "finelast": "imsr_core.lifelong.methods.baselines:FineLast",
        "fineall": "imsr_core.lifelong.methods.baselines:FineAll",
        "peterzero": "imsr_core.lifelong.methods.peterrec:PeterZero",
        "mtl": "imsr_core.lifelong.methods.baselines:MTL",
    },
)
