"""What travels between processes: every message, its topic, its schema.

`schemas.topics` is the page to read first. The pydantic models here are the source; the Avro files
in `schemas/avsc/` are generated (`python -m schemas.generate`).
"""
