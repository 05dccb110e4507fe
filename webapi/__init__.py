"""The read-only web over the database: REST v1 and a start page."""
