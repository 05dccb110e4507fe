"""A file a command: its flags, and what it prints. The work is done elsewhere, and imported when it is called."""
