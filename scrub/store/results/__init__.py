"""Results folders: what sweeps have measured, kept so that any comparison can be made later without running."""
