"""The schema's history. `python -m migrations.write_new` writes what it makes of an empty database."""
