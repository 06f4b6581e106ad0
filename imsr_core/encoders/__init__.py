"""Encoders of a user's item sequence: `protocol` says what they share, `build` makes one by name."""
