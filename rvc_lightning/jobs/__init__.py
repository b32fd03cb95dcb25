"""Commands as jobs: they wait for their device, and run in processes of their own, which outlive the server."""
