"""Files: written whole or not at all, locked, downloaded and unpickled without running code."""
