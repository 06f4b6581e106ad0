"""The `users` line: one encoder of a user's item sequence that keeps learning tasks; see `protocol`."""
