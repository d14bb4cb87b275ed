"""The data plane: applications talk to models through it. A process of its own, which knows nothing of `shared`."""
