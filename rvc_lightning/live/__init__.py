"""Live conversion: one engine, with pipes, audio devices or a browser at its ends."""
