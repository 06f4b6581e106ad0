"""DuckDB views over everything, for analysts: `views.sql` is what they see, `dictionary.toml` what it means.

Begin with `views.sql`, then `sources` (which files stand behind it) and `catalog`, which publishes the views and opens
sessions on them; `sandbox` runs what people type.
"""
