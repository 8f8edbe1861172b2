"""Programs that measure the project's claims."""
