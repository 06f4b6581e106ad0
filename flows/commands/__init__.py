"""The commands of `imsr`, by topic; `flows.cli` puts them together."""
