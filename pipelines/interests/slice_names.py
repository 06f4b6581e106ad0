"""Names of slices of a span's events by user, for those who read scores and import no model (see `user_slices`)."""

OLD, NEW, STRANGERS = "old_users", "new_users", "strangers"
