"""One plan in the cluster: what is observed is fed to its engine, and its commands are executed."""
