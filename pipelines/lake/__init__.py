"""Event files in, spans out: every row is kept in one span, or in quarantine with the reason.

Begin with `ingest` (the order of things) and `intake` (the tables), then `readers` for the formats, `validation` for
the reasons, `times` and `spans` for time.
"""
