"""DuckDB views over everything, for analysts: `views.sql` is what they see, `dictionary.toml` what it means.

Begin with `views.sql` and `catalog`, which fills in its files at each publish; `sandbox` runs what people type.
"""
