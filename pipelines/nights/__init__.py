"""What is due, and one span from end to end. Begin with `plan` and `night`; `backfill`, `restate` and `refresh` are
made of them."""
