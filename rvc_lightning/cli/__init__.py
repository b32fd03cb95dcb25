"""The command line: settings, help, errors as exit statuses, sweeps and progress."""
