"""imsr.toml: each section a dataclass whose fields say default, meaning and range.

Begin with `imsr_toml` (the file as a whole) and `sections`.
"""
