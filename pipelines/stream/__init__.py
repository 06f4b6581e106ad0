"""Events from Kafka or a folder, exactly once: the lake's ingest, with the offsets in its transaction.

Begin with `service`; `watermark` and `closing` say when a span is over.
"""
