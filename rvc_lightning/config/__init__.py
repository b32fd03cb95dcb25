"""Settings: options of a group, their checks, and registries of components."""
